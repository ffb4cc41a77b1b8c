-- Whether a claim by this session would probably find something: an unused right in a lane with rows.
create or replace function odf.has_work(p_session bigint) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return exists (
    with held as materialized (
      select x.lane_id, count(*) as n from lease x
       where x.session_id = p_session
         and x.request_no >= (select s.lease_floor from worker_session s where s.session_id = p_session)
       group by x.lane_id
    )
    select from allotment a
      join lane l using (lane_id)
      left join held using (lane_id)
     where a.session_id = p_session and a.slots > coalesce(held.n, 0)
       and exists (select from ready r where r.lane_id = a.lane_id and r.seq >= l.floor_seq));
end $$;

-- What a worker with free slots asks every second between its polls: whether a claim would probably find
-- something now. Reads only: no row is locked, no transaction number drawn and nothing written, so that
-- a fleet that idles at a limit of zero costs a few index lookups a worker and second.
create or replace function odf.look(p_session bigint, p_key bytea) returns boolean
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  s worker_session := odf.session_of(p_session, p_key, false);
begin
  return s.state = 'active' and odf.has_work(p_session);
end $$;

-- Whether a new allotment would probably give this session a right: a lane that it may serve has rows,
-- it has fewer rights there than slots, and every pool of the lane has room beside all rights and leases.
create or replace function odf.wants_allotment(p_session bigint) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_slots int;
  v_labels text[];
begin
  select case when w.draining then 0 else least(s.slots, coalesce(w.slots_limit, s.slots)) end, s.labels
    into v_slots, v_labels
    from worker_session s join worker w using (worker_id) where s.session_id = p_session;
  return exists (
    select from lane l
     where not l.paused and l.blocked is null and l.replan_id is null and l.labels <@ v_labels
       and v_slots > coalesce((select a.slots from allotment a where a.session_id = p_session and a.lane_id = l.lane_id), 0)
       and exists (select from ready r where r.lane_id = l.lane_id and r.seq >= l.floor_seq)
       and not exists (select from lane_pool m join pool p using (pool_id)
                        where m.lane_id = l.lane_id and odf.pool_limit(p) <= odf.pool_use(p.pool_id)));
end $$;

-- What a pool has given away: for each lane and session, rights or leases, whichever are more.
create or replace function odf.pool_use(p_pool int) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return (
    select coalesce(sum(greatest(a.slots, x.n)), 0)
      from (select session_id, lane_id, count(*) as n from lease
             where lane_id in (select lane_id from lane_pool where pool_id = p_pool) group by 1, 2) x
      full join (select session_id, lane_id, slots from allotment
                  where lane_id in (select lane_id from lane_pool where pool_id = p_pool)) a using (session_id, lane_id));
end $$;
