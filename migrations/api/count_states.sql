-- Progress deltas come from the states themselves, so no path can forget them.
create or replace function odf.count_states() returns trigger
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  if tg_op = 'INSERT' then
    insert into progress_delta
    select data_set_id, status, count(*), sum(rows_out), sum(bytes_out), sum(generation)
      from new_states group by data_set_id, status;
  elsif tg_op = 'DELETE' then
    insert into progress_delta
    select data_set_id, status, -count(*), -sum(rows_out), -sum(bytes_out), -sum(generation)
      from old_states group by data_set_id, status;
  else
    insert into progress_delta
    select data_set_id, status, sum(n), sum(rows_out), sum(bytes_out), sum(generation)
      from (select data_set_id, status, 1 as n, rows_out, bytes_out, generation from new_states
            union all
            select data_set_id, status, -1, -rows_out, -bytes_out, -generation from old_states) both_sides
     group by data_set_id, status
    having sum(n) <> 0 or sum(rows_out) <> 0 or sum(bytes_out) <> 0 or sum(generation) <> 0;
  end if;
  return null;
end $$;

create or replace trigger chunk_state_inserted after insert on odf.chunk_state
  referencing new table as new_states for each statement execute function odf.count_states();
create or replace trigger chunk_state_updated after update on odf.chunk_state
  referencing old table as old_states new table as new_states for each statement execute function odf.count_states();
create or replace trigger chunk_state_deleted after delete on odf.chunk_state
  referencing old table as old_states for each statement execute function odf.count_states();
