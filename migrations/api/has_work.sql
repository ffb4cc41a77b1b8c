-- Whether a claim by this session would probably find something: an unused right in a lane with rows.
create or replace function odf.has_work(p_session bigint) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return exists (
    select from allotment a
      join lane l using (lane_id)
     where a.session_id = p_session
       and a.slots > (select count(*) from lease x where x.session_id = p_session and x.lane_id = a.lane_id)
       and exists (select from ready r where r.lane_id = a.lane_id and r.seq >= l.floor_seq));
end $$;

-- Whether some lane has rows that this session may serve but has no unused right for.
create or replace function odf.wants_allotment(p_session bigint) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return exists (
    select from lane l
     where not l.paused and l.blocked is null
       and l.labels <@ (select labels from worker_session where session_id = p_session)
       and exists (select from ready r where r.lane_id = l.lane_id and r.seq >= l.floor_seq));
end $$;
