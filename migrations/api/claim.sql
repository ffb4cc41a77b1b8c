-- Functions that a worker calls, and passes that look for a few rows among many, are planned without
-- sequential scans: statistics lag behind a queue that fills and empties, and a plan that was right for
-- an empty table stays cached. (The price that this puts on a scan would start JIT compilation.)

-- Takes up to p_free chunks for a session, deepest and most urgent lanes first, each at most up to
-- the session's allotment. Repeating a request number answers the same leases again.
create or replace function odf.claim(p_session bigint, p_key bytea, p_request bigint, p_free int) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, true);
  v_left int := p_free;
  v_room int;
  v_lanes int[];
  v_counts int[];
  v_held int;
  v_oldest bigint;
  l record;
begin
  if s.state <> 'active' then
    return jsonb_build_object('answer', 'not_active', 'state', s.state);
  end if;
  if p_request < s.last_request then
    raise exception 'request % is older than request %, which was answered', p_request, s.last_request
      using errcode = 'OD005', hint = 'Request numbers of a session only grow.';
  end if;
  if p_request = s.last_request then
    return odf.work_items(p_session, p_request);
  end if;
  if (select draining from worker where worker_id = s.worker_id) then
    return jsonb_build_object('answer', 'leases', 'leases', '[]'::jsonb, 'jobs', '{}'::jsonb);
  end if;
  -- What it runs, by lane: counted once, and this session's row is locked, so it can only fall.
  select array_agg(q.lane_id), array_agg(q.n), coalesce(sum(q.n), 0), min(q.oldest) into v_lanes, v_counts, v_held, v_oldest
    from (select lane_id, count(*)::int as n, min(request_no) as oldest from lease
           where session_id = p_session and request_no >= s.lease_floor group by lane_id) q;
  v_left := least(v_left, (select least(s.slots, coalesce(w.slots_limit, s.slots)) from worker w where w.worker_id = s.worker_id) - v_held);
  for l in
    select a.lane_id, a.slots, n.floor_seq, n.job_id, d.buffer_chunks, d.buffer_bytes
      from allotment a join lane n using (lane_id) join job j using (job_id) join data_set d using (data_set_id)
     where a.session_id = p_session and a.slots > 0 and not n.paused and n.blocked is null and n.replan_id is null
     order by n.priority desc, n.depth desc, n.lane_id
  loop
    exit when v_left <= 0;
    v_room := least(v_left, l.slots - coalesce(v_counts[array_position(v_lanes, l.lane_id)], 0));
    if v_room > 0 and (l.buffer_chunks is not null or l.buffer_bytes is not null) then
      v_room := least(v_room, odf.buffer_room(l.lane_id));
    end if;
    continue when v_room <= 0;
    v_left := v_left - odf.claim_lane(p_session, p_request, l.lane_id, l.floor_seq, v_room, v_now);
  end loop;
  if not exists (select from lease where session_id = p_session and request_no = p_request) then
    -- Nothing was taken, so repeating the request is harmless and nothing need be written.
    return jsonb_build_object('answer', 'leases', 'leases', '[]'::jsonb, 'jobs', '{}'::jsonb);
  end if;
  update worker_session set last_request = p_request, lease_floor = coalesce(v_oldest, p_request) where session_id = p_session;
  return odf.work_items(p_session, p_request);
end $$;

-- Moves up to p_room rows of one lane from ready to lease; answers how many.
create or replace function odf.claim_lane(
  p_session bigint, p_request bigint, p_lane int, p_floor bigint, p_room int, p_now timestamptz) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_from bigint := p_floor;
  v_look int := p_room;
  v_seqs bigint[];
  v_ids bigint[];
  v_attempts int[];
  v_taken int := 0;
begin
  -- One round as a rule. Where the head of the lane is of no use (cancelled by the thousand, or locked
  -- in somebody's open transaction), the next ones look further at once.
  for v_round in 1 .. 20 loop
    select array_agg(q.seq), array_agg(q.chunk_id), array_agg(q.attempt) into v_seqs, v_ids, v_attempts
      from (select seq, chunk_id, attempt from ready where lane_id = p_lane and seq >= v_from
             order by seq limit v_look for update skip locked) q;
    exit when v_seqs is null;
    v_taken := v_taken + odf.lease_chunks(p_session, p_request, p_lane, v_seqs, v_ids, v_attempts, p_room - v_taken, p_now);
    exit when v_taken >= p_room or cardinality(v_seqs) < v_look;
    v_from := v_seqs[cardinality(v_seqs)] + 1;
    v_look := 500;
  end loop;
  return v_taken;
end $$;

-- Leases up to p_room of the chunks of these queue rows, which the caller has locked, and removes the
-- rows that are done with. Waits for nobody: the claim holds its session's row, and a beat would wait
-- with it. A chunk whose row or whose input's row is locked keeps its place for the next claim.
create or replace function odf.lease_chunks(
  p_session bigint, p_request bigint, p_lane int, p_seqs bigint[], p_ids bigint[], p_attempts int[], p_room int, p_now timestamptz)
returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_epoch bigint := odf.epoch() << 32;
  v_job int := (select job_id from lane where lane_id = p_lane);
  v_whole boolean;
  v_mark bigint[];
  v_asked boolean;
  v_stale bigint[];
  v_own bigint[];
  v_inputs bigint[];
  v_taken int;
begin
  if not odf.hold_whole_inputs(v_job) then
    return 0;
  end if;
  v_whole := odf.fan_in_complete(v_job);
  v_mark := odf.fan_in_mark(v_job);
  v_asked := exists (select from chunk_request where request_id > 0);
  -- Own rows, then inputs, are locked against resubmit, hold and cancel. LIMIT stands above the locks
  -- and alone in its statement: on the inner side of a join it would lock more rows.
  v_own := array(
    select c.chunk_id from chunk_state c
      -- As NOT EXISTS it may become an anti-join with all of lease, dead rows under a held snapshot included.
      left join lateral (select true as there from lease l where l.chunk_id = c.chunk_id limit 1) l on true
     where c.chunk_id = any (p_ids) and c.status = 'ready'
       and c.attempt_no + 1 = p_attempts[array_position(p_ids, c.chunk_id)] and l.there is null
     order by array_position(p_ids, c.chunk_id) limit p_room for share of c skip locked);
  -- Rows whose chunk has moved on (held, cancelled, claimed by way of another row) are dropped. One look
  -- by index for each: as EXISTS on both sides of OR, newer servers hash the whole tables.
  v_stale := array(
    select t.seq from unnest(p_seqs, p_ids, p_attempts) as t(seq, chunk_id, attempt)
      left join lateral (select true as there from chunk_state c
                          where c.chunk_id = t.chunk_id and c.status = 'ready' and c.attempt_no + 1 = t.attempt limit 1) c on true
      left join lateral (select true as there from lease l where l.chunk_id = t.chunk_id limit 1) l on true
     where not t.chunk_id = any (v_own) and (c.there is null or l.there));
  v_inputs := array(select distinct input_id from chunk_edge where chunk_id = any (v_own));
  v_inputs := array(select chunk_id from chunk_state where chunk_id = any (v_inputs) order by chunk_id for share skip locked);
  v_own := array(
    select id from unnest(v_own) id
     where not exists (select from chunk_edge e where e.chunk_id = id and not e.input_id = any (v_inputs)));
  with input as materialized (
    select e.chunk_id, i.chunk_id as id, i.generation, i.removed,
           -- One that is asked for again takes no new readers: they would keep it from being made for ever.
           i.status = 'validated'
           and not (v_asked and exists (select from chunk_request r where r.chunk_id = i.chunk_id and r.verb = 'resubmit')) as there
      from chunk_edge e join chunk_state i on i.chunk_id = e.input_id
     where e.chunk_id = any (v_own) and i.chunk_id = any (v_inputs)
  ), inputs as (
    select chunk_id, bool_and(there and not removed) as good,
           array_agg(id order by id) as ids, array_agg(generation order by id) as gens
      from input group by chunk_id
  ), mine as materialized (
    select c.chunk_id, c.attempt_no + 1 as attempt, v_whole and coalesce(i.good, true) as good,
           coalesce(i.ids, '{}') as ids, coalesce(i.gens, '{}') as gens
      from chunk_state c left join inputs i using (chunk_id) where c.chunk_id = any (v_own)
  ), leased as (
    insert into lease (chunk_id, fence, attempt, session_id, lane_id, job_id, data_set_id, request_no, silence,
                       input_ids, input_gens, fan_in_mark, claimed_at)
    select m.chunk_id, v_epoch | m.attempt, m.attempt, p_session, p_lane, j.job_id, j.data_set_id, p_request, j.silence,
           m.ids, m.gens, v_mark, p_now
      from mine m, job j where j.job_id = v_job and m.good
    on conflict (chunk_id) do nothing
    returning chunk_id
  ), back_to_waiting as (
    update chunk_state c set status = 'waiting', changed_at = p_now
      from mine m where c.chunk_id = m.chunk_id and c.status = 'ready' and not m.good
  ), made_again as (
    -- An input whose data was given up under its keep rule is made again first: by the next pass that
    -- applies requests, because here its row is locked only against change.
    insert into chunk_request (chunk_id, verb, reason, requested_by, requested_at)
    select distinct id, 'resubmit', 'its data was removed and is needed again', session_user, p_now
      from input where there and removed and not exists (select from chunk_request r where r.chunk_id = input.id)
  )
  select count(*) into v_taken from leased;
  delete from ready r
   where r.lane_id = p_lane and r.seq = any (v_stale || array(
           select t.seq from unnest(p_seqs, p_ids) as t(seq, chunk_id) where t.chunk_id = any (v_own)));
  return v_taken;
end $$;

-- How many more chunks of a lane may run before its output's buffer is full. Locks the lane's row,
-- so that two claims of a buffered lane cannot both see the last place.
create or replace function odf.buffer_room(p_lane int) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  d record;
  v_room bigint;
begin
  perform from lane where lane_id = p_lane for no key update;
  -- One statement, one snapshot: what settles in between moves from running to unconsumed.
  select ds.buffer_chunks, ds.buffer_bytes, p.n, p.bytes_out as bytes,
         odf.unconsumed(ds.data_set_id, coalesce(p.n, 0)) + (select count(*) from lease where lane_id = p_lane) as waiting
    into d
    from lane n join job j using (job_id) join data_set ds using (data_set_id)
    left join progress_now p on p.data_set_id = ds.data_set_id and p.status = 'validated'
   where n.lane_id = p_lane;
  v_room := coalesce(d.buffer_chunks - d.waiting, 2147483647);
  if d.buffer_bytes is not null and d.n > 0 and d.bytes > 0 then
    -- Bytes waiting and bytes to come are reckoned with the mean size of what was published so far.
    v_room := least(v_room, floor(d.buffer_bytes / (d.bytes::numeric / d.n))::bigint - d.waiting);
  end if;
  return greatest(0, least(v_room, 2147483647))::int;
end $$;

-- Published chunks of a data set that its slowest consumer has not taken yet (and was not told to leave).
-- Counted one for one: a flow file may bound only what every reader takes chunk by chunk;
-- p_published are published in all.
create or replace function odf.unconsumed(p_data_set int, p_published bigint) returns bigint
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return coalesce((
    select max(p_published - coalesce((select sum(n) from progress_now where data_set_id = j.data_set_id
                                         and status in ('validated', 'complete', 'cancelled')), 0))::bigint
      from job_input i join job j using (job_id)
     where i.data_set_id = p_data_set and i.mapping = 'same_key' and not j.retired), 0);
end $$;

-- For inputs taken whole: how often chunks of each were published, so that a later publication shows. Never
-- falls: what left with an old plan stays counted, and a new plan counts one.
create or replace function odf.fan_in_mark(p_job int) returns bigint[]
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return array(
    select (d.mark_base + coalesce((select sum(generations) from progress_now p where p.data_set_id = i.data_set_id), 0))::bigint
      from job_input i join data_set d using (data_set_id) where i.job_id = p_job and i.mapping = 'all' order by i.position);
end $$;
