-- Takes up to p_free chunks for a session, deepest and most urgent lanes first, each at most up to
-- the session's allotment. Repeating a request number answers the same leases again.
create or replace function odf.claim(p_session bigint, p_key bytea, p_request bigint, p_free int) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, true);
  v_left int := p_free;
  v_room int;
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
  v_left := least(v_left, (select least(s.slots, coalesce(w.slots_limit, s.slots)) from worker w where w.worker_id = s.worker_id)
                          - (select count(*) from lease where session_id = p_session)::int);
  for l in
    select a.lane_id, a.slots, n.floor_seq, n.job_id, d.buffer_chunks, d.buffer_bytes
      from allotment a join lane n using (lane_id) join job j using (job_id) join data_set d using (data_set_id)
     where a.session_id = p_session and a.slots > 0 and not n.paused and n.blocked is null
     order by n.priority desc, n.depth desc, n.lane_id
  loop
    exit when v_left <= 0;
    v_room := least(v_left, l.slots - (select count(*) from lease where session_id = p_session and lane_id = l.lane_id)::int);
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
  update worker_session set last_request = p_request where session_id = p_session;
  return odf.work_items(p_session, p_request);
end $$;

-- Moves up to p_room rows of one lane from ready to lease; answers how many.
create or replace function odf.claim_lane(
  p_session bigint, p_request bigint, p_lane int, p_floor bigint, p_room int, p_now timestamptz) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_ids bigint[];
  v_attempts int[];
  v_taken int := 0;
begin
  for v_round in 1 .. 20 loop
    -- LIMIT stands inside the materialized CTE: on the inner side of a join it would lock more rows.
    with picked as materialized (
      select lane_id, seq from ready where lane_id = p_lane and seq >= p_floor
       order by seq limit p_room - v_taken for update skip locked
    ), taken as (
      delete from ready r using picked p where r.lane_id = p.lane_id and r.seq = p.seq
      returning r.seq, r.chunk_id, r.attempt
    )
    select array_agg(chunk_id order by seq), array_agg(attempt order by seq) into v_ids, v_attempts from taken;
    exit when v_ids is null;
    v_taken := v_taken + odf.lease_chunks(p_session, p_request, p_lane, v_ids, v_attempts, p_now);
    exit when v_taken >= p_room;
    if v_taken = 0 then
      perform odf.drop_stale_rows(p_lane, p_floor, 1000);
    end if;
  end loop;
  return v_taken;
end $$;

-- Leases those of the given chunks that are still to be had; answers how many.
create or replace function odf.lease_chunks(
  p_session bigint, p_request bigint, p_lane int, p_ids bigint[], p_attempts int[], p_now timestamptz) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_epoch bigint := odf.epoch() << 32;
  v_locked bigint[];
  v_job int := (select job_id from lane where lane_id = p_lane);
  v_whole boolean := odf.fan_in_complete(v_job);
  v_mark bigint[] := odf.fan_in_mark(v_job);
  v_taken int;
begin
  -- Own rows and inputs are locked against resubmit, hold and cancel, in id order as everywhere. The
  -- ids are collected first: one condition on both would be a scan of all chunks.
  v_locked := array(select unnest(p_ids) union select input_id from chunk_edge where chunk_id = any (p_ids));
  perform from chunk_state where chunk_id = any (v_locked) order by chunk_id for share;
  -- A chunk may stand in the queue twice (held and resubmitted meanwhile).
  with mine as materialized (
    select distinct t.chunk_id, t.attempt
      from unnest(p_ids, p_attempts) as t(chunk_id, attempt)
      join chunk_state c on c.chunk_id = t.chunk_id and c.status = 'ready' and c.attempt_no + 1 = t.attempt
     where c.chunk_id = any (p_ids)
  ), input as materialized (
    select m.chunk_id, i.chunk_id as id, i.generation, i.status = 'validated' as there, i.removed
      from mine m join chunk_edge e on e.chunk_id = m.chunk_id join chunk_state i on i.chunk_id = e.input_id
     where i.chunk_id = any (v_locked)
  ), inputs as (
    select chunk_id, bool_and(there and not removed) as good,
           array_agg(id order by id) as ids, array_agg(generation order by id) as gens
      from input group by chunk_id
  ), leased as (
    insert into lease (chunk_id, fence, attempt, session_id, lane_id, job_id, data_set_id, request_no, silence,
                       input_ids, input_gens, fan_in_mark, claimed_at)
    select m.chunk_id, v_epoch | m.attempt, m.attempt, p_session, p_lane, j.job_id, j.data_set_id, p_request, j.silence,
           coalesce(i.ids, '{}'), coalesce(i.gens, '{}'), v_mark, p_now
      from mine m left join inputs i using (chunk_id), job j
     where j.job_id = v_job and v_whole and coalesce(i.good, true)
    on conflict (chunk_id) do nothing
    returning chunk_id
  ), back_to_waiting as (
    update chunk_state c set status = 'waiting', changed_at = p_now
      from mine m left join inputs i using (chunk_id)
     where c.chunk_id = m.chunk_id and c.status = 'ready' and not (v_whole and coalesce(i.good, true))
       and not exists (select from lease l where l.chunk_id = c.chunk_id)
  ), made_again as (
    -- An input whose data was given up under its keep rule is made again first: by the next pass that
    -- applies requests, because here its row is locked only against change.
    insert into chunk_request (chunk_id, verb, reason, requested_by, requested_at)
    select distinct id, 'resubmit', 'its data was removed and is needed again', session_user, p_now
      from input where there and removed and not exists (select from chunk_request r where r.chunk_id = input.id)
  )
  select count(*) into v_taken from leased;
  return v_taken;
end $$;

-- Clears the head of a lane of rows whose chunks are not to be had any more (held or cancelled by the
-- thousand), so that a claim need not take them one by one.
create or replace function odf.drop_stale_rows(p_lane int, p_floor bigint, p_limit int) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  with head as materialized (
    select lane_id, seq, chunk_id, attempt from ready where lane_id = p_lane and seq >= p_floor
     order by seq limit p_limit for update skip locked
  )
  delete from ready r using head h
   where r.lane_id = h.lane_id and r.seq = h.seq
     and not exists (select from chunk_state c where c.chunk_id = h.chunk_id and c.status = 'ready' and c.attempt_no + 1 = h.attempt);
end $$;

-- How many more chunks of a lane may run before its output's buffer is full. Locks the lane's row,
-- so that two claims of a buffered lane cannot both see the last place.
create or replace function odf.buffer_room(p_lane int) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  d record;
  v_unconsumed bigint;
  v_running bigint;
  v_room bigint;
begin
  perform from lane where lane_id = p_lane for no key update;
  select ds.data_set_id, ds.buffer_chunks, ds.buffer_bytes, coalesce(p.n, 0) as n, coalesce(p.bytes_out, 0) as bytes
    into d
    from lane n join job j using (job_id) join data_set ds using (data_set_id)
    left join progress_now p on p.data_set_id = ds.data_set_id and p.status = 'validated'
   where n.lane_id = p_lane;
  v_unconsumed := odf.unconsumed(d.data_set_id, d.n);
  select count(*) into v_running from lease where lane_id = p_lane;
  v_room := coalesce(d.buffer_chunks - v_unconsumed - v_running, 2147483647);
  if d.buffer_bytes is not null and d.n > 0 and d.bytes > 0 then
    -- Bytes waiting and bytes to come are reckoned with the mean size of what was published so far.
    v_room := least(v_room, floor(d.buffer_bytes / (d.bytes::numeric / d.n))::bigint - v_unconsumed - v_running);
  end if;
  return greatest(0, least(v_room, 2147483647))::int;
end $$;

-- Published chunks of a data set that its slowest consumer has not taken yet; p_published are published in all.
create or replace function odf.unconsumed(p_data_set int, p_published bigint) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return coalesce((
    select max(p_published - coalesce((select n from progress_now where data_set_id = j.data_set_id and status = 'validated'), 0))
      from job_input i join job j using (job_id)
     where i.data_set_id = p_data_set and i.mapping = 'same_key' and not j.retired), 0);
end $$;

-- For inputs taken whole: how often chunks of each were published, so that a later publication shows.
create or replace function odf.fan_in_mark(p_job int) returns bigint[]
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return array(
    select coalesce((select sum(generations) from progress_now p where p.data_set_id = i.data_set_id), 0)::bigint
      from job_input i where i.job_id = p_job and i.mapping = 'all' order by i.position);
end $$;
