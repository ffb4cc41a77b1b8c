-- The operator's verbs. Each is in force at commit, needs no coordinator, and writes its audit row in
-- the same transaction, whoever calls.

-- Finds a pool, by name or flow:name.
create or replace function odf.find_pool(p_name text) returns odf.pool
language plpgsql stable security definer set search_path = odf, pg_temp as $$
declare
  v pool;
begin
  select p.* into strict v from pool p join flow f using (flow_id)
   where not p.retired and (p.name = p_name or f.name || ':' || p.name = p_name);
  return v;
exception
  when no_data_found then
    raise exception 'no pool named %', quote_literal(p_name) using errcode = 'OD010',
      hint = coalesce('Pools: ' || (select string_agg(name, ', ' order by name) from pool where not retired), 'No flow is applied yet.');
  when too_many_rows then
    raise exception 'several flows have a pool named %', quote_literal(p_name) using errcode = 'OD002',
      hint = 'Name it flow:pool.';
end $$;

-- A new limit from what a person wrote: 10, +5, -5, 50%, 0, none. NULL is unlimited.
create or replace function odf.new_limit(p_now int, p_change text) returns int
language plpgsql immutable set search_path = odf, pg_temp as $$
declare
  v_change text := lower(trim(p_change));
  v_n numeric;
begin
  if v_change in ('none', 'unlimited') then
    return null;
  end if;
  if v_change !~ '^([+-]?[0-9]{1,9}|[0-9]{1,6}%)$' then
    raise exception 'expected a limit such as 10, +5, -5, 50%%, 0 or none, found %', quote_literal(p_change) using errcode = 'OD002';
  end if;
  if v_change ~ '^[0-9]+$' then
    v_n := v_change::numeric;
  elsif p_now is null then
    raise exception 'the limit is none, so % has nothing to start from', v_change using errcode = 'OD002', hint = 'Give a number.';
  elsif v_change like '%\%' then
    v_n := ceil(p_now * rtrim(v_change, '%')::numeric / 100);
  else
    v_n := greatest(0, p_now + v_change::numeric);
  end if;
  return least(v_n, 1000000)::int;
end $$;

create or replace function odf.scale(p_pool text, p_change text, p_reason text, p_at_once boolean default false) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  p pool;
  v_old int;
  v_new int;
  v_running int;
  v_stopped int := 0;
begin
  perform odf.hold_rights();
  p := odf.find_pool(p_pool);
  select * into p from pool where pool_id = p.pool_id for update;
  v_old := case when p.operator_set then p.operator_limit else p.file_limit end;
  v_new := odf.new_limit(v_old, p_change);
  update pool set operator_set = true, operator_limit = v_new, reason = p_reason, changed_by = session_user, changed_at = odf.clock()
   where pool_id = p.pool_id;
  perform odf.log_event('pool.scaled', p.name, format('%s -> %s%s', coalesce(v_old::text, 'none'), coalesce(v_new::text, 'none'),
    coalesce(' (' || p_reason || ')', '')));
  perform odf.allot();
  select count(*) into v_running from lease l join lane_pool m using (lane_id) where m.pool_id = p.pool_id;
  if p_at_once and v_new < v_running then
    with last as (
      select l.chunk_id from lease l join lane_pool m using (lane_id)
       where m.pool_id = p.pool_id and l.abort is null order by l.claimed_at desc, l.chunk_id desc limit v_running - v_new
       -- One that is being settled right now need not be told.
       for no key update of l skip locked
    ), told as (
      update lease l set abort = 'term', abort_why = 'scaled down' from last where l.chunk_id = last.chunk_id returning 1
    )
    select count(*) into v_stopped from told;
  end if;
  return jsonb_build_object('pool', p.name, 'old', v_old, 'new', v_new, 'file', p.file_limit, 'running', v_running, 'stopped', v_stopped,
    'paused', p.paused);
end $$;

create or replace function odf.find_worker(p_name text) returns odf.worker
language plpgsql stable security definer set search_path = odf, pg_temp as $$
declare
  v worker;
begin
  select * into v from worker where name = p_name;
  if not found then
    raise exception 'no worker named %', quote_literal(p_name) using errcode = 'OD010',
      hint = coalesce('Workers: ' || (select string_agg(name, ', ' order by name) from worker), 'No worker has registered yet.');
  end if;
  return v;
end $$;

create or replace function odf.scale_worker(p_worker text, p_change text, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  w worker;
  v_started int;
  v_new int;
begin
  perform odf.hold_rights();
  -- Read now and not before: of two changes such as +5 at once each must count.
  w := odf.find_worker(p_worker);
  v_started := (select slots from worker_session where worker_id = w.worker_id order by session_id desc limit 1);
  v_new := odf.new_limit(coalesce(w.slots_limit, v_started), p_change);
  update worker set slots_limit = v_new, reason = p_reason, changed_by = session_user where worker_id = w.worker_id;
  perform odf.log_event('worker.scaled', w.name, format('%s -> %s slots%s', coalesce(w.slots_limit, v_started),
    coalesce(v_new::text, 'its own'), coalesce(' (' || p_reason || ')', '')));
  perform odf.allot();
  return jsonb_build_object('worker', w.name, 'old', coalesce(w.slots_limit, v_started), 'new', v_new, 'started_with', v_started);
end $$;

create or replace function odf.drain_worker(p_worker text, p_on boolean, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  w worker;
begin
  perform odf.hold_rights();
  w := odf.find_worker(p_worker);
  update worker set draining = p_on, reason = p_reason, changed_by = session_user where worker_id = w.worker_id;
  perform odf.log_event(case when p_on then 'worker.draining' else 'worker.resumed' end, w.name, coalesce(p_reason, ''));
  perform odf.allot();
  return jsonb_build_object('worker', w.name, 'draining', p_on,
    'running', (select count(*) from lease join worker_session s using (session_id) where s.worker_id = w.worker_id));
end $$;

-- Pauses or resumes a pool, a job or a data set (its producer), by name, or 'all'.
create or replace function odf.pause(p_name text, p_on boolean, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_pools int[];
  v_lanes int[];
begin
  perform odf.hold_rights();
  select coalesce(array_agg(p.pool_id), '{}') into v_pools from pool p join flow f using (flow_id)
   where not p.retired and p_name in (p.name, f.name || ':' || p.name)
     and not exists (select from job j where j.flow_id = p.flow_id and j.name = p.name and not j.retired);
  select coalesce(array_agg(l.lane_id), '{}') into v_lanes
    from lane l join job j using (job_id) join data_set d using (data_set_id) join flow f on f.flow_id = j.flow_id
   where not j.retired and p_name in ('all', j.name, d.name, f.name || ':' || j.name, f.name || ':' || d.name);
  if v_pools = '{}' and v_lanes = '{}' then
    raise exception 'nothing to % is named %', case when p_on then 'pause' else 'resume' end, quote_literal(p_name)
      using errcode = 'OD010', hint = 'Name a pool, a job, a data set that a job makes, or all.';
  end if;
  update pool set paused = p_on, reason = p_reason, changed_by = session_user, changed_at = odf.clock() where pool_id = any (v_pools);
  update lane set paused = p_on, reason = p_reason, changed_by = session_user where lane_id = any (v_lanes);
  perform odf.log_event(case when p_on then 'paused' else 'resumed' end, p_name, coalesce(p_reason, ''));
  perform odf.allot();
  return jsonb_build_object('name', p_name, 'paused', p_on, 'running',
    (select count(*) from lease l where l.lane_id = any (v_lanes)
        or l.lane_id in (select m.lane_id from lane_pool m where m.pool_id = any (v_pools))));
end $$;
