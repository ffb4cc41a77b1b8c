-- A page of what was made from superseded data. The page is taken by the index of stale chunks before
-- anything else is looked up, so that it costs a page whatever there is beside it.
with page as materialized (
  select s.data_set_id, s.chunk_id, s.generation, s.status, s.stale_since
    from odf.chunk_state s join odf.data_set d using (data_set_id) join odf.flow f using (flow_id)
   where s.stale_since is not null and not d.retired
     and ($1::text is null or f.name = $1) and ($2::int is null or s.data_set_id = $2)
     and (s.data_set_id, s.chunk_id) > ($3::int, $4::bigint)
   order by s.data_set_id, s.chunk_id limit $5
)
select g.chunk_id, g.data_set_id, d.name as dataset, k.key, odf.shown_status(g.chunk_id, g.status)::text as status, g.stale_since as since,
       g.generation, p.attempt, p.worker, p.location, p.published_at, coalesce(i.n, 0) as superseded_n, coalesce(i.inputs, '[]') as superseded,
       coalesce(w.whole, '[]') as whole
  from page g
  join odf.data_chunk k using (chunk_id)
  join odf.data_set d on d.data_set_id = g.data_set_id and d.plan_id = k.plan_id
  left join odf.publication p on p.chunk_id = g.chunk_id and p.generation = g.generation
  left join lateral (
    select count(*) as n, jsonb_agg(jsonb_build_object('name', q.name, 'read', q.gen, 'now', q.now, 'published_at', q.published_at,
             'attempt', q.attempt, 'worker', q.worker, 'location', q.location) order by q.id) filter (where q.place <= 5) as inputs
      from (select u.id, u.gen, x.name || '/' || c.key as name, t.generation as now, n.published_at, n.attempt, n.worker, n.location,
                   row_number() over (order by u.id) as place
              from (select id, gen from unnest(p.input_ids, p.input_gens) r(id, gen)
                    union all
                    select e.input_id, null from odf.chunk_edge e where e.chunk_id = g.chunk_id and not e.input_id = any (p.input_ids)) u
              join odf.chunk_state t on t.chunk_id = u.id
              join odf.data_chunk c on c.chunk_id = u.id join odf.data_set x on x.data_set_id = c.data_set_id
              left join odf.publication n on n.chunk_id = u.id and n.generation = t.generation
             where t.generation > coalesce(u.gen, 0)) q) i on true
  left join lateral (
    select jsonb_agg(jsonb_build_object('dataset', q.name, 'read', q.read, 'now', q.now) order by q.n) as whole
      from (select x.name, m.n, p.fan_in_mark[m.n] as read,
                   coalesce((select sum(generations) from odf.progress_now y where y.data_set_id = x.data_set_id), 0)::bigint as now
              from odf.job j
              cross join lateral (select i.data_set_id, row_number() over (order by i.position) as n
                                    from odf.job_input i where i.job_id = j.job_id and i.mapping = 'all') m
              join odf.data_set x on x.data_set_id = m.data_set_id
             where j.data_set_id = g.data_set_id and not j.retired) q
     where q.read <> q.now) w on true
 order by g.data_set_id, g.chunk_id
