-- Chunks of plans in force with the state that people see: a request for one before its lease, its
-- lease before its stored state. One set-based statement (odf.chunk calls a function for every row)
-- in the order of an index, so that the first page costs a page; what is redundant below ($2, $3, $6,
-- $7, $9, $10) lets filters be found by index instead of by looking at every chunk.
with request as materialized (
  select distinct on (chunk_id) chunk_id, verb from odf.chunk_request order by chunk_id, request_id desc
)
select f.name as flow, d.name as dataset, c.key, c.ordinal, c.chunk_id,
       coalesce(q.verb, case when l.chunk_id is not null then 'running' end, s.status::text) as status,
       s.attempt_no - c.attempt_base as attempts, s.charged, s.generation, s.rows_out as rows, s.bytes_out as bytes,
       -- What no plan has will not come by itself: said where every state says why.
       coalesce(s.reason, case when s.status = 'waiting' then (
         select 'waits for ' || case when g.is_key then i.name || '/' || g.wanted else 'a chunk of ' || i.name || ' with ' || g.wanted end
                || ', which the plan of ' || i.name || ' does not have'
           from odf.chunk_gap g join odf.data_set i on i.data_set_id = g.data_set_id
          where g.chunk_id = c.chunk_id order by i.name, g.wanted limit 1) end) as reason, s.retry_at, s.changed_at, s.stale_since, s.hold_until,
       w.name as worker, l.claimed_at, l.rows_done, l.bytes_done, c.bounds
  from odf.data_chunk c
  join odf.data_set d on d.plan_id = c.plan_id
  join odf.flow f using (flow_id)
  join odf.chunk_state s on s.chunk_id = c.chunk_id
  left join odf.lease l on l.chunk_id = c.chunk_id
  left join odf.worker_session x on x.session_id = l.session_id
  left join odf.worker w on w.worker_id = x.worker_id
  left join request q on q.chunk_id = c.chunk_id
 where ($1::text is null or f.name = $1)
   -- Whole data sets by their plans, chunks by their ids; all plans in force where none is named.
   and c.plan_id between $2::bigint and $3::bigint
   and not d.retired
   and ($4::bigint[] is null or c.plan_id = any ($4) or c.chunk_id = any ($5::bigint[]))
   and ($6::text[] is null or s.status = any ($6::text[]::odf.chunk_status[])
        or ($7::boolean and c.chunk_id in (select chunk_id from odf.lease union all select chunk_id from odf.chunk_request)))
   and ($8::text[] is null or coalesce(q.verb, case when l.chunk_id is not null then 'running' end, s.status::text) = any ($8))
   and c.ordinal between $9::bigint and $10::bigint
   and ($11::jsonb is null or exists (
         select from jsonb_array_elements($11) r
          where c.ordinal between (r ->> 0)::bigint and (r ->> 1)::bigint and (c.ordinal - (r ->> 0)::bigint) % (r ->> 2)::bigint = 0))
   and ($12::text is null or position(lower($12) in lower(coalesce(s.reason, ''))) > 0)
   and ($13::text is null or w.name = $13)
   and ($14::bigint is null or (c.plan_id, c.ordinal) > ($14, $15::bigint))
 order by c.plan_id, c.ordinal
 limit $16
