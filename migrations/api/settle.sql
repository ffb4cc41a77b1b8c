-- Ends attempts, a batch at a time, and answers for each: applied | already_applied | lease_lost |
-- stale_input. Publication, lineage and the release of one-to-one consumers are this one transaction.
-- p_items: [{chunk_id, fence, outcome: validated | failed | released, class, error, reason, location,
-- rows, bytes, checksum, validation, evidence, exit_code, signal, script_sha256, log_tail, log_path,
-- duration_ms}, ...].
-- Waits for a locked row 2 s at most and does nothing then: a worker settles each row by itself next, so
-- that a person's open transaction holds up the end of that one chunk only.
create or replace function odf.settle(p_session bigint, p_key bytea, p_items jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off set lock_timeout = '2s' as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, false);
  v_worker text := (select name from worker where worker_id = s.worker_id);
  v_answers jsonb;
  v_ended bigint[];
  v_stale bigint[];
  v_published bigint[];
begin
  -- Sorted by id, as every batch that locks leases, so that two batches cannot wait for each other.
  select array_agg(x.chunk_id) into v_ended
    from (select l.chunk_id from lease l
            join jsonb_to_recordset(p_items) as i(chunk_id bigint, fence bigint)
              on i.chunk_id = l.chunk_id and i.fence = l.fence
           where l.session_id = p_session order by l.chunk_id for update of l) x;
  perform from chunk_state where chunk_id = any (v_ended) order by chunk_id for no key update;

  select array_agg(l.chunk_id) into v_stale
    from lease l join jsonb_to_recordset(p_items) as i(chunk_id bigint, outcome text) using (chunk_id)
   where l.chunk_id = any (v_ended) and i.outcome = 'validated'
     and (exists (select from unnest(l.input_ids, l.input_gens) u(id, gen) join chunk_state c on c.chunk_id = u.id
                   where c.generation <> u.gen)
          or l.fan_in_mark <> odf.fan_in_mark(l.job_id));

  select coalesce(jsonb_agg(jsonb_build_object('chunk_id', i.chunk_id, 'fence', i.fence, 'answer',
           case when i.chunk_id = any (v_stale) then 'stale_input'
                when i.chunk_id = any (v_ended) then 'applied'
                -- A publication was recorded only if it is there: a lease that was handed back, or whose
                -- inputs were stale, has the same last fence.
                when i.outcome = 'validated' then coalesce(p.answer, 'lease_lost')
                when c.last_fence = i.fence and c.last_session = p_session then 'already_applied'
                else 'lease_lost' end)), '[]')
    into v_answers
    from jsonb_to_recordset(p_items) as i(chunk_id bigint, fence bigint, outcome text)
    left join chunk_state c on c.chunk_id = i.chunk_id
    -- One look by index for each item: as EXISTS below CASE, newer servers hash the whole table.
    left join lateral (
      select 'already_applied' as answer from publication p
       where p.chunk_id = i.chunk_id and p.fence = i.fence and p.worker = v_worker and i.outcome = 'validated'
         and not i.chunk_id = any (coalesce(v_ended, '{}')) limit 1) p on true;
  if v_ended is null then
    return v_answers;
  end if;

  insert into publication (chunk_id, generation, fence, attempt, worker, location, rows_out, bytes_out, checksum,
                           input_ids, input_gens, fan_in_mark, claimed_at, published_at,
                           connection, environment, evidence, validation)
  select l.chunk_id, c.generation + 1, l.fence, l.attempt, v_worker, i.location, i.rows, i.bytes, i.checksum,
         l.input_ids, l.input_gens, l.fan_in_mark, l.claimed_at, v_now,
         j.spec #>> '{output_at,connection}',
         j.spec -> 'connections' -> (j.spec #>> '{output_at,connection}') ->> 'environment', i.evidence, i.validation
    from lease l join chunk_state c using (chunk_id) join job j on j.job_id = l.job_id
    join jsonb_to_recordset(p_items) as i(chunk_id bigint, outcome text, location text, rows bigint, bytes bigint, checksum text,
                                          evidence text, validation text)
      on i.chunk_id = l.chunk_id
   where l.chunk_id = any (v_ended) and i.outcome = 'validated' and not l.chunk_id = any (coalesce(v_stale, '{}'));

  perform odf.end_attempts(p_session, v_worker, s.host, v_ended, v_stale, p_items, v_now);

  perform odf.note_removals(v_ended, v_now);
  perform odf.note_stale(v_ended, v_now);
  select array_agg(e.chunk_id) into v_published
    from chunk_state c join chunk_edge e on e.input_id = c.chunk_id
   where c.chunk_id = any (v_ended) and c.status = 'validated';
  if v_published is not null then
    perform odf.promote_chunks(v_published);
  end if;
  if exists (select from chunk_request where chunk_id = any (v_ended)) then
    perform odf.apply_requests(v_ended);
  end if;
  return v_answers;
end $$;

-- The end of leased attempts, whatever it was: history, the chunk's next state, its next place in a
-- queue, and the lease gone. Also what a sweep uses, with p_items telling 'lost'.
create or replace function odf.end_attempts(
  p_session bigint, p_worker text, p_host text, p_ended bigint[], p_stale bigint[], p_items jsonb, p_now timestamptz)
returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_again bigint[];
  v_waiting bigint[];
begin
  with ending as (
    select l.*, i.class as given_class, i.error, i.reason, i.rows, i.bytes, i.exit_code, i.signal, i.script_sha256,
           i.log_tail, i.log_path, i.duration_ms, i.evidence, j.max_attempts, j.backoff, j.max_backoff, j.needs_approval,
           case when l.chunk_id = any (coalesce(p_stale, '{}')) then 'released' else i.outcome end as outcome,
           case when l.chunk_id = any (coalesce(p_stale, '{}')) then 'stale_input' else i.class end as class
      from lease l
      join jsonb_to_recordset(p_items) as i(chunk_id bigint, outcome text, class text, error text, reason text,
           rows bigint, bytes bigint, exit_code int, signal int, script_sha256 text, log_tail text, log_path text,
           duration_ms bigint, evidence text) on i.chunk_id = l.chunk_id
      join job j on j.job_id = l.job_id
     where l.chunk_id = any (p_ended)
  ), decided as (
    select e.*, (e.outcome = 'failed' and coalesce(e.class, '') not in ('host', 'outage', 'stale_input', 'gate', 'refused')) as charge
      from ending e
  ), history as (
    insert into attempt (ended_at, chunk_id, attempt, fence, session_id, worker, host, claimed_at, outcome, class, charged,
                         error, exit_code, signal, rows_out, bytes_out, duration_ms, script_sha256, log_path, log_tail, evidence)
    select p_now, chunk_id, attempt, fence, p_session, p_worker, p_host, claimed_at, outcome, class, charge,
           coalesce(error, reason), exit_code, signal, rows, bytes, duration_ms, script_sha256, log_path, log_tail, evidence
      from decided
  ), changed as (
    update chunk_state c
       set attempt_no = d.attempt,
           last_fence = case when d.outcome = 'lost' then c.last_fence else d.fence end,
           last_session = case when d.outcome = 'lost' then c.last_session else p_session end,
           charged = c.charged + d.charge::int,
           lost = case when d.outcome = 'lost' then c.lost + 1 when d.outcome = 'validated' then 0 else c.lost end,
           generation = c.generation + (d.outcome = 'validated')::int,
           removed = c.removed and d.outcome <> 'validated',
           stale_since = case when d.outcome <> 'validated' then c.stale_since end,
           rows_out = case when d.outcome = 'validated' then coalesce(d.rows, 0) else c.rows_out end,
           bytes_out = case when d.outcome = 'validated' then coalesce(d.bytes, 0) else c.bytes_out end,
           status = n.status,
           retry_at = case when n.status = 'failed' then p_now + n.delay end,
           reason = case when n.status in ('failed', 'exhausted')
                         then left(case when d.outcome = 'lost' then format('crash: %s leases lost in a row', c.lost + 1)
                                   else coalesce(d.error, d.reason, d.class, 'failed without a message') end, 2000) end,
           changed_at = p_now
      from decided d
      join chunk_state before using (chunk_id)
      cross join lateral (
        select case d.outcome
                 when 'validated' then case when d.needs_approval then 'complete' else 'validated' end
                 when 'failed' then case when d.class in ('permanent', 'refused') or before.charged + d.charge::int >= d.max_attempts
                                         then 'exhausted' else 'failed' end
                 when 'lost' then case when before.lost + 1 >= 5 then 'exhausted' else 'ready' end
                 else 'ready'
               end::chunk_status as status,
               -- Full jitter; what was not the chunk's fault waits the first delay at least once over.
               case when d.charge then random() * least(d.max_backoff, d.backoff * power(2, least(before.charged, 30)))
                    else d.backoff * (1 + random()) end as delay) n
     where c.chunk_id = d.chunk_id and c.status = 'ready'
    returning c.chunk_id, c.status, c.retry_at, c.attempt_no, d.class
  ), retries as (
    insert into due (due_at, chunk_id, attempt)
    select retry_at, chunk_id, attempt_no + 1 from changed where status = 'failed'
  )
  select array_agg(chunk_id) filter (where status = 'ready' and class is distinct from 'stale_input'),
         array_agg(chunk_id) filter (where status = 'ready' and class = 'stale_input')
    into v_again, v_waiting from changed;
  -- A chunk that left 'ready' while it ran, however that came about, keeps its state; only its counters
  -- move on: without that its next claim would draw the fence of the attempt that ends here.
  update chunk_state c set attempt_no = l.attempt, last_fence = l.fence, last_session = p_session, changed_at = p_now
    from lease l where l.chunk_id = c.chunk_id and l.chunk_id = any (p_ended) and c.attempt_no < l.attempt;
  delete from lease where chunk_id = any (p_ended);
  if v_again is not null then
    perform odf.enqueue(v_again);
  end if;
  if v_waiting is not null then
    update chunk_state set status = 'waiting' where chunk_id = any (v_waiting) and status = 'ready';
    perform odf.promote_chunks(v_waiting);
  end if;
end $$;
