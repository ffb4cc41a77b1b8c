-- One beat per worker process, and an idle worker's poll.
-- p_beat: beat_no, free (slots), facts (now and then), progress [[chunk_id, fence, rows, bytes], ...].
-- Answers: state, slots, drain, lanes that have work for it, aborts asked for, whether to reconcile.
create or replace function odf.beat(p_session bigint, p_key bytea, p_beat jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, true);
  w worker;
  v_work boolean;
begin
  if s.state in ('dead', 'ended') then
    return jsonb_build_object('state', s.state, 'reason', s.end_reason);
  end if;
  update worker_session
     set beat_no = greatest(beat_no, (p_beat ->> 'beat_no')::bigint), beat_at = v_now, state = 'active'
   where session_id = p_session;
  select * into w from worker where worker_id = s.worker_id;
  if p_beat ? 'facts' then
    insert into session_facts values (p_session, p_beat -> 'facts', v_now)
    on conflict (session_id) do update set facts = excluded.facts, at = excluded.at;
  end if;
  if jsonb_array_length(coalesce(p_beat -> 'progress', '[]')) > 0 then
    -- A beat waits for nobody: what is being settled right now needs no progress.
    update lease l set rows_done = q.rows, bytes_done = q.bytes
      from (select x.chunk_id, (p ->> 2)::bigint as rows, (p ->> 3)::bigint as bytes
              from jsonb_array_elements(p_beat -> 'progress') as p
              join lease x on x.chunk_id = (p ->> 0)::bigint and x.fence = (p ->> 1)::bigint and x.session_id = p_session
             order by x.chunk_id for no key update of x skip locked) q
     where l.chunk_id = q.chunk_id;
  end if;
  v_work := odf.has_work(p_session);
  if not v_work and coalesce((p_beat ->> 'free')::int, 0) > 0
     and not exists (select from leader where expires > clock_timestamp())
     and odf.wants_allotment(p_session)
     and pg_try_advisory_xact_lock(hashtext('odf.allot')) then
    -- Nobody need lead for a worker to get the rights that are free. Only tried: this session's row is
    -- locked already, and waiting for the lock in this order could deadlock.
    perform odf.allot();
    v_work := odf.has_work(p_session);
  end if;
  return jsonb_build_object(
    'state', 'active',
    'slots', least(s.slots, coalesce(w.slots_limit, s.slots)),
    'drain', w.draining,
    'work', v_work,
    'reconcile', s.state = 'silent',
    'aborts', (select coalesce(jsonb_agg(jsonb_build_array(chunk_id, fence, abort, abort_why)), '[]')
                 from lease where session_id = p_session and request_no >= s.lease_floor and abort is not null));
end $$;
