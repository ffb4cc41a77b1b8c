-- A worker process starts: a new session for a name that no living session elsewhere holds.
-- p_hello: name, host, machine_id, pid, version, protocol, slots, labels[], key_sha256 (hex).
create or replace function odf.register(p_hello jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  c_protocol constant int := 1;
  v_now timestamptz := odf.clock();
  v_name text := p_hello ->> 'name';
  v_protocol int := (p_hello ->> 'protocol')::int;
  c_most_slots constant int := 10000;
  v_slots numeric := (p_hello ->> 'slots')::numeric;
  v_worker worker;
  v_other worker_session;
  v_session bigint;
begin
  perform odf.demand_read_committed();
  if v_protocol is distinct from c_protocol then
    raise exception 'this worker speaks protocol %, the control database protocol %', v_protocol, c_protocol
      using errcode = 'OD003',
            hint = case when v_protocol > c_protocol
                        then 'Run ''coordinator init'' of the same release as the worker.'
                        else 'Install the release of the worker that matches the coordinator.' end;
  end if;
  if v_name is null or v_name !~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' then
    raise exception 'worker name % is not usable', coalesce(quote_literal(v_name), 'NULL')
      using errcode = 'OD002', hint = 'Use 1 to 63 letters, digits, dots, dashes or underscores, starting with a letter or digit.';
  end if;
  if v_slots is null or v_slots < 0 or v_slots > c_most_slots or v_slots <> trunc(v_slots) then
    raise exception 'a worker has 0 to % slots, found %', c_most_slots, coalesce(v_slots::text, 'NULL')
      using errcode = 'OD002', hint = format('Start it with --slots %s or fewer; a machine that can do more runs several workers.', c_most_slots);
  end if;
  perform odf.hold_rights();
  insert into worker (name) values (v_name) on conflict (name) do nothing;
  select * into v_worker from worker where name = v_name for update;
  select * into v_other from worker_session
   where worker_id = v_worker.worker_id and state in ('active', 'silent') for update;
  if found and v_other.key_sha256 = decode(p_hello ->> 'key_sha256', 'hex') then
    -- The same start once more: its answer was lost.
    return jsonb_build_object('session_id', v_other.session_id, 'protocol', c_protocol, 'now', v_now,
      'api_version', (select api_version from installation));
  end if;
  if found then
    raise exception 'a worker named % is already at work: host %, process %, last heard %',
      quote_literal(v_name), v_other.host, v_other.pid, date_trunc('second', v_other.beat_at)
      using errcode = 'OD004',
            hint = 'Give this one another --name. If the other has died, its name comes free when its silence has passed (about half a minute).';
  end if;
  insert into worker_session (worker_id, key_sha256, host, machine_id, pid, version, protocol, slots, labels, beat_at, started_at)
  values (v_worker.worker_id, decode(p_hello ->> 'key_sha256', 'hex'), p_hello ->> 'host', p_hello ->> 'machine_id',
          (p_hello ->> 'pid')::int, p_hello ->> 'version', v_protocol, v_slots::int,
          array(select jsonb_array_elements_text(coalesce(p_hello -> 'labels', '[]'))), v_now, v_now)
  returning session_id into v_session;
  -- A fresh start takes back a drain that was asked of the process before it.
  update worker set draining = false, reason = null where worker_id = v_worker.worker_id and draining;
  perform odf.log_event('worker.registered', v_name,
    format('session %s on %s, %s slots', v_session, p_hello ->> 'host', p_hello ->> 'slots'));
  perform odf.allot();
  return jsonb_build_object('session_id', v_session, 'protocol', c_protocol, 'now', v_now,
    'api_version', (select api_version from installation));
end $$;
