-- Chunks of plans in force with the state that people see: a request for one before its lease, its
-- lease before its stored state. One set-based statement; odf.chunk calls a function for every row.
select f.name as flow, d.name as dataset, c.key, c.ordinal, c.chunk_id,
       coalesce(q.verb, case when l.chunk_id is not null then 'running' end, s.status::text) as status,
       s.attempt_no as attempts, s.charged, s.generation, s.rows_out as rows, s.bytes_out as bytes, s.reason, s.retry_at, s.changed_at,
       w.name as worker, l.claimed_at, l.rows_done, l.bytes_done, c.bounds
  from odf.data_set d
  join odf.flow f using (flow_id)
  join odf.data_chunk c on c.plan_id = d.plan_id
  join odf.chunk_state s on s.chunk_id = c.chunk_id
  left join odf.lease l on l.chunk_id = c.chunk_id
  left join odf.worker_session x on x.session_id = l.session_id
  left join odf.worker w on w.worker_id = x.worker_id
  left join lateral (select r.verb from odf.chunk_request r where r.chunk_id = c.chunk_id order by r.request_id desc limit 1) q on true
 where not d.retired
   and ($1::text is null or f.name = $1)
   and ($2::text[] is null or d.name = any ($2) or (d.name, c.key) in (select * from unnest($3::text[], $4::text[])))
   and ($5::text[] is null or coalesce(q.verb, case when l.chunk_id is not null then 'running' end, s.status::text) = any ($5))
   and ($6::text is null or position(lower($6) in lower(coalesce(s.reason, ''))) > 0)
   and ($7::jsonb is null or exists (
         select from jsonb_array_elements($7) r
          where c.ordinal between (r ->> 0)::bigint and (r ->> 1)::bigint and (c.ordinal - (r ->> 0)::bigint) % (r ->> 2)::bigint = 0))
   and ($8::text is null or w.name = $8)
   and ($9::int is null or (d.data_set_id, c.ordinal) > ($9, $10::bigint))
 order by d.data_set_id, c.ordinal
 limit $11
