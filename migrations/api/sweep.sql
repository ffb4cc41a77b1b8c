-- The leader names sessions that it has not heard for a time by its own monotonic clock,
-- [{session_id, beat_no, unheard_ms}, ...]; a beat that came meanwhile spares its session.
-- Two statements: first the session is marked, then its leases are taken. In one statement a claim
-- that commits in between would leave leases that nobody takes.
create or replace function odf.sweep(p_term bigint, p_silent jsonb, p_slack interval) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  x record;
  v_lost bigint[];
  v_total bigint := 0;
  v_dead int := 0;
begin
  perform odf.prove_term(p_term);
  for x in
    select s.session_id, s.host, s.pid, s.beat_no, w.name, make_interval(secs => i.unheard_ms / 1000.0) as unheard
      from worker_session s join worker w using (worker_id)
      join jsonb_to_recordset(p_silent) as i(session_id bigint, beat_no bigint, unheard_ms bigint) using (session_id)
     where s.state in ('active', 'silent') and s.beat_no = i.beat_no
     order by s.session_id
  loop
    update worker_session set state = 'silent'
     where session_id = x.session_id and beat_no = x.beat_no and state in ('active', 'silent');
    continue when not found;
    select array_agg(q.chunk_id) into v_lost
      from (select chunk_id from lease where session_id = x.session_id and silence + p_slack <= x.unheard
             order by chunk_id for update) q;
    if v_lost is not null then
      perform from chunk_state where chunk_id = any (v_lost) order by chunk_id for no key update;
      perform odf.end_attempts(x.session_id, x.name, x.host, v_lost, null,
        (select jsonb_agg(jsonb_build_object('chunk_id', id, 'outcome', 'lost',
                 'reason', format('worker %s was not heard for %s s', x.name, round(extract(epoch from x.unheard)))))
           from unnest(v_lost) id), v_now);
      perform odf.apply_requests(v_lost);
      v_total := v_total + cardinality(v_lost);
    end if;
    if not exists (select from lease where session_id = x.session_id) then
      update worker_session set state = 'dead', ended_at = v_now,
             end_reason = format('not heard for %s s', round(extract(epoch from x.unheard)))
       where session_id = x.session_id;
      delete from allotment where session_id = x.session_id;
      perform odf.log_event('worker.dead', x.name,
        format('session %s on %s was not heard for %s s; %s chunks go elsewhere', x.session_id, x.host,
               round(extract(epoch from x.unheard)), coalesce(cardinality(v_lost), 0)));
      v_dead := v_dead + 1;
    end if;
  end loop;
  -- Belt and braces: a lease of a session that is over is a defect of ours; it is repaired and counted.
  select array_agg(q.chunk_id) into v_lost
    from (select l.chunk_id from lease l join worker_session s using (session_id)
           where s.state in ('dead', 'ended') and s.ended_at > v_now - interval '1 day' order by l.chunk_id for update of l) q;
  if v_lost is not null then
    perform odf.end_attempts(0, 'unknown', 'unknown', v_lost, null,
      (select jsonb_agg(jsonb_build_object('chunk_id', id, 'outcome', 'released', 'reason', 'its session is over')) from unnest(v_lost) id), v_now);
    perform odf.count_bug('lease_of_dead_session', cardinality(v_lost), v_lost[1]::text);
  end if;
  return jsonb_build_object('dead', v_dead, 'lost', v_total);
end $$;

-- The sessions that should be heard, with their beat numbers: what the leader compares with its memory.
create or replace function odf.beats(p_term bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.prove_term(p_term);
  return jsonb_build_object(
    'server_start', pg_postmaster_start_time(),
    'clock_offset_ms', (select (extract(epoch from clock_offset) * 1000)::bigint from installation),
    'sessions', (select coalesce(jsonb_agg(jsonb_build_array(session_id, beat_no)), '[]')
                   from worker_session where state in ('active', 'silent')),
    'shortest_silence_ms', coalesce((select min(extract(epoch from silence) * 1000)::bigint from job where not retired), 25000));
end $$;
