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

-- Gives p_room slots to claimants of so much capacity each, one a claimant and round, in their order, until
-- the room or all capacity is used up; without going round: the work is a sort of the claimants, whatever
-- the numbers. Called by odf.fair_allotments alone, whose search path it keeps.
create or replace function odf.share_out(p_caps int[], p_room int) returns int[]
language plpgsql immutable as $$
declare
  v_level bigint;  -- whole rounds
  v_rest bigint;   -- what is left for the next, incomplete one
begin
  if p_room <= 0 then
    return array_fill(0, array[cardinality(p_caps)]);
  end if;
  if coalesce((select sum(cap) from unnest(p_caps) cap), 0) <= p_room then
    return p_caps;
  end if;
  -- After as many rounds as a claimant's capacity, those of less have it all and those of more that much.
  select q.cap + (p_room - q.used) / q.above, (p_room - q.used) % q.above into v_level, v_rest
    from (select 0 as cap, 0::bigint as used, cardinality(p_caps)::bigint as above
           union all
          select cap, sum(cap) over upward + cap * (count(*) over () - row_number() over upward),
                 count(*) over () - row_number() over upward
            from unnest(p_caps) cap window upward as (order by cap rows unbounded preceding)) q
   where q.used <= p_room
   order by q.used desc, q.above limit 1;
  return array(
    select (least(cap, v_level) + (cap > v_level and count(*) filter (where cap > v_level) over (order by i) <= v_rest)::int)::int
      from unnest(p_caps) with ordinality as c(cap, i) order by i);
end $$;

-- The rights that sessions should have now. First every lane's need (leased and waiting chunks) is
-- met, the most urgent and deepest lane first, one slot a session and round; then what the pools have
-- left is given ahead of need. A right that a session holds beyond its fair share falls to it at once;
-- a right above what it runs is given only as far as the pool has room beside all that still runs.
-- The work grows with sessions times lanes and not with slots: it is done under all sessions' locks.
create or replace function odf.fair_allotments() returns table (session_id bigint, lane_id int, slots int)
language plpgsql security definer set search_path = odf, pg_temp as $$
#variable_conflict use_column
declare
  c_many constant int := 1000000;
  v_sessions bigint[]; v_slots int[];
  v_lanes int[]; v_open boolean[]; v_need int[];
  v_pools int[]; v_limits int[];
  v_live int[];               -- [lane, session] leases now
  v_allowed boolean[];        -- [lane, session] open, and the session has its labels
  v_ideal int[];              -- [lane, session] fair share
  v_free int[];               -- slots of a session not yet promised
  v_left int[];               -- room of a pool
  v_ns int; v_nl int;
  v_base int; v_room int; v_caps int[]; v_given int[]; v_mine int[];
  i int; k int; p int; v_round int; v_ok boolean; v_give int; v_running int;
begin
  select array_agg(s.session_id order by s.session_id),
         array_agg(case when s.state = 'active' and not w.draining then least(s.slots, coalesce(w.slots_limit, s.slots)) else 0 end
                   order by s.session_id)
    into v_sessions, v_slots
    from worker_session s join worker w using (worker_id) where s.state in ('active', 'silent');
  select array_agg(l.lane_id order by l.priority desc, l.depth desc, l.lane_id),
         array_agg(not l.paused and l.blocked is null and l.replan_id is null and not j.retired order by l.priority desc, l.depth desc, l.lane_id)
    into v_lanes, v_open
    from lane l join job j using (job_id);
  v_ns := coalesce(cardinality(v_sessions), 0);
  v_nl := coalesce(cardinality(v_lanes), 0);
  if v_ns = 0 or v_nl = 0 then
    return;
  end if;
  select coalesce(array_agg(q.pool_id order by q.pool_id), '{}'), coalesce(array_agg(coalesce(odf.pool_limit(q), c_many) order by q.pool_id), '{}')
    into v_pools, v_limits from pool q;
  select array_agg(coalesce(x.n, 0) order by n.k, s.i), array_agg(n.open and l.labels <@ w.labels order by n.k, s.i)
    into v_live, v_allowed
    from unnest(v_lanes, v_open) with ordinality as n(id, open, k)
    cross join unnest(v_sessions) with ordinality as s(id, i)
    join lane l on l.lane_id = n.id
    join worker_session w on w.session_id = s.id
    left join (select s.session_id, l.lane_id, count(*)::int as n
                 from worker_session s join lease l on l.session_id = s.session_id and l.request_no >= s.lease_floor
                where s.session_id = any (v_sessions) group by 1, 2) x on x.session_id = s.id and x.lane_id = n.id;
  -- More than all slots together, or than two thousand ahead, makes no difference.
  v_room := (select least(sum(q), 2000) from unnest(v_slots) q);
  for k in 1 .. v_nl loop
    v_base := (k - 1) * v_ns;
    v_need[k] := (select sum(q) from unnest(v_live[v_base + 1 : v_base + v_ns]) q);
    if v_open[k] then
      select v_need[k] + count(*) into v_give
        from (select from ready r join lane l using (lane_id)
               where r.lane_id = v_lanes[k] and r.seq >= l.floor_seq limit v_room) q;
      v_need[k] := v_give;
    end if;
  end loop;

  -- Fair shares from nothing: round 1 meets needs within slots, round 2 gives what is left ahead.
  v_left := v_limits;
  v_free := v_slots;
  v_ideal := array_fill(0, array[v_ns * v_nl]);
  for v_round in 1 .. 2 loop
    for k in 1 .. v_nl loop
      continue when not v_open[k];
      select coalesce(array_agg(array_position(v_pools, m.pool_id)), '{}') into v_mine
        from lane_pool m where m.lane_id = v_lanes[k];
      v_room := case v_round when 1 then v_need[k] else c_many end;
      foreach p in array v_mine loop
        v_room := least(v_room, v_left[p]);
      end loop;
      continue when v_room <= 0;
      v_base := (k - 1) * v_ns;
      v_caps := array(
        select case when not may then 0 when v_round = 1 then least(all_of_it - has, greatest(free, 0)) else all_of_it - has end
          from unnest(v_slots, v_free, v_ideal[v_base + 1 : v_base + v_ns], v_allowed[v_base + 1 : v_base + v_ns])
               with ordinality as u(all_of_it, free, has, may, n) order by n);
      v_given := odf.share_out(v_caps, v_room);
      v_give := (select sum(q) from unnest(v_given) q);
      continue when v_give = 0;
      foreach p in array v_mine loop
        v_left[p] := v_left[p] - v_give;
      end loop;
      v_need[k] := v_need[k] - v_give;
      for i in 1 .. v_ns loop
        v_ideal[v_base + i] := v_ideal[v_base + i] + v_given[i];
        v_free[i] := v_free[i] - v_given[i];
      end loop;
    end loop;
  end loop;

  -- From shares to rights: room is the limit less all that runs now, wherever it runs.
  v_left := v_limits;
  for k in 1 .. v_nl loop
    v_running := (select sum(q) from unnest(v_live[(k - 1) * v_ns + 1 : k * v_ns]) q);
    for p in select array_position(v_pools, m.pool_id) from lane_pool m where m.lane_id = v_lanes[k] loop
      v_left[p] := v_left[p] - v_running;
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
    v_base := (k - 1) * v_ns;
    for i in 1 .. v_ns loop
      v_give := 0;
      if v_ok then
        v_give := v_ideal[v_base + i] - v_live[v_base + i];
        foreach p in array v_mine loop
          v_give := least(v_give, v_left[p]);
        end loop;
        if v_give > 0 then
          foreach p in array v_mine loop
            v_left[p] := v_left[p] - v_give;
          end loop;
          v_give := v_live[v_base + i] + v_give;
        else
          v_give := least(v_ideal[v_base + i], v_live[v_base + i]);
        end if;
      end if;
      session_id := v_sessions[i];
      lane_id := v_lanes[k];
      slots := v_give;
      return next;
    end loop;
  end loop;
end $$;
