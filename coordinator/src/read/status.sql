-- One row a data set with all that its state is derived from, in one snapshot and without counting
-- chunks: counts come from progress, what runs from leases, speed from the last publications.
with clock as materialized (
  select odf.clock() as now
), counts as materialized (
  select data_set_id, jsonb_object_agg(status, n) as by_status, sum(rows_out)::bigint as rows_out, sum(bytes_out)::bigint as bytes_out,
         coalesce(sum(n) filter (where status = 'validated'), 0)::bigint as validated,
         coalesce(sum(bytes_out) filter (where status = 'validated'), 0)::bigint as validated_bytes,
         coalesce(sum(n) filter (where status = 'exhausted'), 0)::bigint as exhausted
    from odf.progress_now group by data_set_id
), running as materialized (
  select data_set_id, lane_id, count(*) as n from odf.lease group by data_set_id, lane_id
), pool_use as materialized (
  select p.pool_id, p.name, odf.pool_limit(p) as in_force, p.paused, p.operator_set, p.reason, p.changed_by,
         coalesce((select sum(r.n) from odf.lane_pool m join running r using (lane_id) where m.pool_id = p.pool_id), 0) as running
    from odf.pool p
), recent as materialized (
  select chunk_id, published_at, claimed_at, bytes_out from odf.publication
   where published_at > (select now - interval '24 hours' from clock)
   order by published_at desc limit 2000
), sample as (
  select c.data_set_id,
         count(*) filter (where r.published_at > k.now - interval '15 minutes') as n_15m,
         coalesce(sum(r.bytes_out) filter (where r.published_at > k.now - interval '15 minutes'), 0)::bigint as bytes_15m,
         count(*) filter (where r.published_at > k.now - interval '1 hour') as n_1h,
         coalesce(sum(r.bytes_out) filter (where r.published_at > k.now - interval '1 hour'), 0)::bigint as bytes_1h,
         count(*) as n_all, coalesce(sum(r.bytes_out), 0)::bigint as bytes_all,
         min(r.claimed_at) as first_claimed
    from recent r
    -- OFFSET 0: looked up row by row, never by reading all chunks, whatever the planner thinks of their number.
    cross join lateral (select x.data_set_id from odf.data_chunk x where x.chunk_id = r.chunk_id offset 0) c
    cross join clock k group by c.data_set_id
), cut as (
  select case when count(*) >= 2000 then min(published_at) end as since from recent
), due as (
  select c.data_set_id, min(d.due_at) as next_retry, array_agg(distinct left(c.reason, 300)) as reasons
    from (select due_at, chunk_id from odf.due order by due_at limit 500) d
    cross join lateral (select x.data_set_id, x.reason from odf.chunk_state x
                         where x.chunk_id = d.chunk_id and x.status = 'failed' offset 0) c
   group by c.data_set_id
)
select f.name as flow, d.name, d.data_set_id, j.name as job,
       p.chunks, coalesce(p.notes, '{}') as notes,
       p.partition is distinct from coalesce(d.spec -> 'partition', 'null') and p.plan_id is not null as outdated, x.state as replan, d.plan_error, w.started_at as writing_since,
       (select i.name || '/' || g.wanted from odf.chunk_gap g join odf.data_set i using (data_set_id)
         where g.plan_id = d.plan_id limit 1) as gap,
       coalesce(n.by_status, '{}') as counts, coalesce((select sum(r.n) from running r where r.data_set_id = d.data_set_id), 0)::bigint as running,
       coalesce(n.rows_out, 0) as rows_out, coalesce(n.bytes_out, 0) as bytes_out,
       l.depth,
       case when l.lane_id is not null then jsonb_build_object('paused', l.paused, 'reason', l.reason, 'changed_by', l.changed_by,
         'blocked', l.blocked, 'replanning', l.replan_id is not null, 'labels', l.labels) end as lane,
       (select coalesce(jsonb_agg(jsonb_build_object('name', u.name, 'limit', u.in_force, 'paused', u.paused, 'operator_set', u.operator_set,
               'reason', u.reason, 'changed_by', u.changed_by, 'running', u.running) order by u.name), '[]')
          from odf.lane_pool m join pool_use u using (pool_id) where m.lane_id = l.lane_id) as pools,
       (select coalesce(jsonb_agg(jsonb_build_object('dataset', x.name, 'whole', i.mapping = 'all', 'chunks', xp.chunks,
               'validated', coalesce(xn.validated, 0), 'exhausted', coalesce(xn.exhausted, 0)) order by i.position), '[]')
          from odf.job_input i join odf.data_set x on x.data_set_id = i.data_set_id
          left join odf.plan xp on xp.plan_id = x.plan_id
          left join counts xn on xn.data_set_id = x.data_set_id
         where i.job_id = j.job_id) as inputs,
       case when d.buffer_chunks is not null or d.buffer_bytes is not null then jsonb_build_object('chunks', d.buffer_chunks,
         'bytes', d.buffer_bytes, 'unconsumed', odf.unconsumed(d.data_set_id, coalesce(n.validated, 0)),
         'mean_bytes', coalesce(n.validated_bytes, 0)::float8 / greatest(coalesce(n.validated, 0), 1)) end as buffer,
       q.next_retry, coalesce(q.reasons, '{}') as reasons,
       case when s.n_all > 0 then jsonb_build_object('n_15m', s.n_15m, 'bytes_15m', s.bytes_15m, 'n_1h', s.n_1h, 'bytes_1h', s.bytes_1h,
         'n_all', s.n_all, 'bytes_all', s.bytes_all, 'first_claimed', s.first_claimed, 'cut_since', cut.since) end as sample
  from odf.data_set d
  join odf.flow f using (flow_id)
  cross join cut
  left join odf.plan p on p.plan_id = d.plan_id
  left join odf.plan w on w.data_set_id = d.data_set_id and w.state = 'writing'
  left join lateral (select r.state from odf.replan r where r.data_set_id = d.data_set_id and r.state in ('asked', 'prepared', 'confirmed')
                      order by r.replan_id desc limit 1) x on true
  left join odf.job j on j.data_set_id = d.data_set_id and not j.retired
  left join odf.lane l on l.job_id = j.job_id
  left join counts n on n.data_set_id = d.data_set_id
  left join due q on q.data_set_id = d.data_set_id
  left join sample s on s.data_set_id = d.data_set_id
 where not d.retired and ($1::text is null or f.name = $1)
 order by f.name, coalesce(l.depth, -1), d.name
