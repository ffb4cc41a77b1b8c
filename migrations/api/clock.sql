-- The one source of time for everything that decides. A harness may move it, nobody else.
create or replace function odf.clock() returns timestamptz
language plpgsql volatile security definer set search_path = odf, pg_temp as $$
begin
  return clock_timestamp() + (select clock_offset from installation);
end $$;

create or replace function odf.move_clock(p_by interval) returns timestamptz
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  update installation set clock_offset = clock_offset + p_by where clock_movable;
  if not found then
    raise exception 'the clock of this installation cannot be moved'
      using errcode = 'OD011', hint = 'Only a database made by a test harness has a movable clock.';
  end if;
  return odf.clock();
end $$;
