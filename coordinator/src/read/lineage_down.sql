-- One step down: the chunks made from the given ones, with the generation that their newest one read.
-- The one chunk of a data set that takes theirs whole comes with them; larger ones are only counted.
select g.n as of_n, k.chunk_id, x.name as dataset, k.key, p.input_gens[array_position(p.input_ids, g.id)] as read, s.generation as now,
       odf.shown_status(k.chunk_id, s.status)::text as status, s.stale_since, p.published_at, p.attempt, p.worker, p.location, q.total
  from unnest($1::bigint[]) with ordinality g(id, n)
  cross join lateral (
    select e.chunk_id, count(*) over () as total
      from odf.chunk_edge e join odf.chunk_state t on t.chunk_id = e.chunk_id
     where e.input_id = g.id order by t.stale_since is null, e.chunk_id limit $2) q
  join odf.chunk_state s on s.chunk_id = q.chunk_id
  join odf.data_chunk k on k.chunk_id = q.chunk_id
  join odf.data_set x on x.data_set_id = k.data_set_id and x.plan_id = k.plan_id and not x.retired
  left join odf.publication p on p.chunk_id = q.chunk_id and p.generation = s.generation
 order by g.n, k.chunk_id
