-- Who reads what: a chunk that a running attempt reads, alone or with its whole data set, is not made
-- again under it.

-- The leased chunks whose attempts read any of these.
create or replace function odf.readers_of(p_chunks bigint[]) returns bigint[]
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return array(
    select l.chunk_id from lease l join chunk_edge e on e.chunk_id = l.chunk_id join unnest(p_chunks) x(id) on x.id = e.input_id
    union
    select l.chunk_id from lease l join job_input i on i.job_id = l.job_id and i.mapping = 'all'
     where i.data_set_id in (select s.data_set_id from unnest(p_chunks) x(id) join chunk_state s on s.chunk_id = x.id)
    order by 1);
end $$;

-- For a claim: keeps the job's whole inputs from being asked to be made again until it commits. Waits
-- for nobody; false where somebody is at it right now.
create or replace function odf.hold_whole_inputs(p_job int) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  d int;
begin
  for d in select data_set_id from job_input where job_id = p_job and mapping = 'all' order by data_set_id loop
    if not pg_try_advisory_xact_lock_shared(hashtext('odf.whole'), d) then
      return false;
    end if;
  end loop;
  return true;
end $$;

-- For requests (all where NULL): of their data sets those that a running attempt reads whole, or that a
-- claim is about to. The others stay locked against such claims until the caller commits. Never waits,
-- because the caller holds chunks; what is left out is the next pass's.
create or replace function odf.sets_read_whole(p_chunks bigint[]) returns int[]
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_read int[] := '{}';
  v_free boolean;
  d int;
begin
  for d in
    select distinct c.data_set_id from chunk_request r join chunk_state c using (chunk_id)
     where (p_chunks is null or r.chunk_id = any (p_chunks))
       and exists (select from job_input i join job j using (job_id)
                    where i.data_set_id = c.data_set_id and i.mapping = 'all' and not j.retired)
     order by c.data_set_id
  loop
    v_free := pg_try_advisory_xact_lock(hashtext('odf.whole'), d);
    -- A statement of its own: one that began before the lock was free would not see the claim's leases.
    v_free := v_free and not exists (
      select from job_input i join lease l on l.job_id = i.job_id where i.data_set_id = d and i.mapping = 'all');
    if not v_free then
      v_read := v_read || d;
    end if;
  end loop;
  return v_read;
end $$;
