-- Rights to run: how many chunks of each lane each session may run at once.
--
-- Invariant, at every commit, for every pool: the sum over its lanes and all sessions of
-- max(allotment, live leases) never rises above the limit; where it is above already (a lowered
-- limit), nothing new starts until it has drained. There is no counter: live leases are counted here,
-- under the locks of all session rows, which every claim takes first.

create or replace function odf.pool_limit(p odf.pool) returns int
language sql immutable as $$
  select case when p.paused then 0 when p.operator_set then p.operator_limit else p.file_limit end
$$;

-- The lock order of the whole protocol: this advisory lock, session rows by id, lanes, leases by
-- chunk, chunk states by id. Whatever calls allot() and locks any of the later ones calls this first.
create or replace function odf.hold_rights() returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.demand_read_committed();
  perform pg_advisory_xact_lock(hashtext('odf.allot'));
  perform from worker_session where state in ('active', 'silent') order by session_id for no key update;
end $$;

create or replace function odf.allot() returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_changed int;
begin
  perform odf.hold_rights();
  with wanted as (
    select * from odf.fair_allotments()
  ), written as (
    insert into allotment as a (session_id, lane_id, slots)
    select session_id, lane_id, slots from wanted
    on conflict (session_id, lane_id) do update set slots = excluded.slots where a.slots <> excluded.slots
    returning 1
  ), gone as (
    delete from allotment a
     where not exists (select from wanted w where w.session_id = a.session_id and w.lane_id = a.lane_id)
    returning 1
  )
  select (select count(*) from written) + (select count(*) from gone) into v_changed;
  return v_changed;
end $$;

-- As allot(), but without taking a lock where nothing would change: what the leader runs every second.
create or replace function odf.allot_if_needed(p_term bigint) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.prove_term(p_term);
  if not exists (
    select from odf.fair_allotments() w full join allotment a using (session_id, lane_id)
     where w.slots is distinct from a.slots) then
    return 0;
  end if;
  return odf.allot();
end $$;

-- The rights that sessions should have now. First every lane's need (leased and waiting chunks) is
-- met, the most urgent and deepest lane first, one slot a session and round; then what the pools have
-- left is given ahead of need. A right that a session holds beyond its fair share falls to it at once;
-- a right above what it runs is given only as far as the pool has room beside all that still runs.
create or replace function odf.fair_allotments() returns table (session_id bigint, lane_id int, slots int)
language plpgsql security definer set search_path = odf, pg_temp as $$
#variable_conflict use_column
declare
  c_many constant int := 1000000;
  v_sessions bigint[]; v_slots int[]; v_labels jsonb;
  v_lanes int[]; v_open boolean[]; v_need int[];
  v_pools int[]; v_limits int[];
  v_member jsonb;             -- lane index -> array of pool indexes
  v_live int[];               -- [session, lane] leases now
  v_ideal int[];              -- [session, lane] fair share
  v_free int[];               -- slots of a session not yet promised
  v_left int[];               -- room of a pool
  v_ns int; v_nl int; v_np int;
  v_allowed boolean[];
  i int; k int; p int; v_round int; v_gave boolean; v_ok boolean; v_give int; v_mine int[];
begin
  select array_agg(s.session_id order by s.session_id),
         array_agg(case when s.state = 'active' and not w.draining then least(s.slots, coalesce(w.slots_limit, s.slots)) else 0 end
                   order by s.session_id)
    into v_sessions, v_slots
    from worker_session s join worker w using (worker_id) where s.state in ('active', 'silent');
  select array_agg(l.lane_id order by l.priority desc, l.depth desc, l.lane_id),
         array_agg(not l.paused and l.blocked is null and not j.retired order by l.priority desc, l.depth desc, l.lane_id)
    into v_lanes, v_open
    from lane l join job j using (job_id);
  v_ns := coalesce(cardinality(v_sessions), 0);
  v_nl := coalesce(cardinality(v_lanes), 0);
  if v_ns = 0 or v_nl = 0 then
    return;
  end if;
  select coalesce(array_agg(q.pool_id order by q.pool_id), '{}'), coalesce(array_agg(coalesce(odf.pool_limit(q), c_many) order by q.pool_id), '{}')
    into v_pools, v_limits from pool q;
  v_np := cardinality(v_pools);
  v_live := array_fill(0, array[v_ns * v_nl]);
  v_ideal := v_live;
  v_allowed := array_fill(false, array[v_ns * v_nl]);
  v_need := array_fill(0, array[v_nl]);
  for i, k, v_give in
    select array_position(v_sessions, x.session_id), array_position(v_lanes, x.lane_id), x.n
      from (select s.session_id, l.lane_id, count(*)::int as n
              from worker_session s join lease l on l.session_id = s.session_id and l.request_no >= s.lease_floor
             where s.session_id = any (v_sessions) group by 1, 2) x
  loop
    continue when i is null or k is null;
    v_live[(i - 1) * v_nl + k] := v_give;
    v_need[k] := v_need[k] + v_give;
  end loop;
  for i, k in
    select array_position(v_sessions, s.session_id), array_position(v_lanes, l.lane_id)
      from worker_session s, lane l
     where s.session_id = any (v_sessions) and l.labels <@ s.labels
  loop
    v_allowed[(i - 1) * v_nl + k] := v_open[k];
  end loop;
  for k in 1 .. v_nl loop
    if v_open[k] then
      select v_need[k] + count(*) into v_give
        from (select from ready r join lane l using (lane_id)
               where r.lane_id = v_lanes[k] and r.seq >= l.floor_seq limit 2000) q;
      v_need[k] := v_give;
    end if;
  end loop;

  -- Fair shares from nothing: round 1 meets needs within slots, round 2 gives what is left ahead.
  v_left := v_limits;
  v_free := v_slots;
  for v_round in 1 .. 2 loop
    for k in 1 .. v_nl loop
      continue when not v_open[k];
      select coalesce(array_agg(array_position(v_pools, m.pool_id)), '{}') into v_mine
        from lane_pool m where m.lane_id = v_lanes[k];
      loop
        v_gave := false;
        for i in 1 .. v_ns loop
          continue when not v_allowed[(i - 1) * v_nl + k];
          exit when v_round = 1 and v_need[k] <= 0;
          continue when v_ideal[(i - 1) * v_nl + k] >= v_slots[i] or (v_round = 1 and v_free[i] <= 0);
          v_ok := true;
          foreach p in array v_mine loop
            v_ok := v_ok and v_left[p] > 0;
          end loop;
          exit when not v_ok;
          foreach p in array v_mine loop
            v_left[p] := v_left[p] - 1;
          end loop;
          v_ideal[(i - 1) * v_nl + k] := v_ideal[(i - 1) * v_nl + k] + 1;
          v_need[k] := v_need[k] - 1;
          v_free[i] := v_free[i] - 1;
          v_gave := true;
        end loop;
        exit when not v_gave;
      end loop;
    end loop;
  end loop;

  -- From shares to rights: room is the limit less all that runs now, wherever it runs.
  v_left := v_limits;
  for k in 1 .. v_nl loop
    for p in select array_position(v_pools, m.pool_id) from lane_pool m where m.lane_id = v_lanes[k] loop
      for i in 1 .. v_ns loop
        v_left[p] := v_left[p] - v_live[(i - 1) * v_nl + k];
      end loop;
    end loop;
  end loop;
  for p in
    -- A lease of a session that is over is a defect, which the next sweep repairs; until then it counts.
    select array_position(v_pools, m.pool_id) from worker_session s join lease l using (session_id) join lane_pool m using (lane_id)
     where s.state in ('dead', 'ended') and s.ended_at > odf.clock() - interval '1 day'
  loop
    v_left[p] := v_left[p] - 1;
  end loop;
  for k in 1 .. v_nl loop
    select coalesce(array_agg(array_position(v_pools, m.pool_id)), '{}') into v_mine
      from lane_pool m where m.lane_id = v_lanes[k];
    v_ok := v_open[k];
    foreach p in array v_mine loop
      v_ok := v_ok and v_left[p] >= 0;
    end loop;
    for i in 1 .. v_ns loop
      v_give := 0;
      if v_ok then
        v_give := v_ideal[(i - 1) * v_nl + k] - v_live[(i - 1) * v_nl + k];
        foreach p in array v_mine loop
          v_give := least(v_give, v_left[p]);
        end loop;
        if v_give > 0 then
          foreach p in array v_mine loop
            v_left[p] := v_left[p] - v_give;
          end loop;
          v_give := v_live[(i - 1) * v_nl + k] + v_give;
        else
          v_give := least(v_ideal[(i - 1) * v_nl + k], v_live[(i - 1) * v_nl + k]);
        end if;
      end if;
      session_id := v_sessions[i];
      lane_id := v_lanes[k];
      slots := v_give;
      return next;
    end loop;
  end loop;
end $$;
