-- One step up: what the given generations of chunks were made from; for what was never made, what it
-- will be made from. $1 chunks, $2 their generations, $3 how many inputs of each.
select g.n as of_n, k.chunk_id, x.name as dataset, k.key, q.gen as read, s.generation as now, odf.shown_status(k.chunk_id, s.status)::text as status,
       s.stale_since, m.published_at, m.attempt, m.worker, m.location, q.total
  from unnest($1::bigint[], $2::int[]) with ordinality g(id, gen, n)
  left join odf.publication p on p.chunk_id = g.id and p.generation = g.gen
  cross join lateral (
    select u.id, u.gen, u.place, count(*) over () as total
      from (select r.id, r.gen, r.place from unnest(p.input_ids, p.input_gens) with ordinality r(id, gen, place)
            union all
            select e.input_id, null, row_number() over (order by e.input_id)
              from odf.chunk_edge e where e.chunk_id = g.id and p.chunk_id is null) u
      join odf.chunk_state t on t.chunk_id = u.id
     order by t.generation > u.gen desc nulls last, u.place limit $3) q
  join odf.chunk_state s on s.chunk_id = q.id
  join odf.data_chunk k on k.chunk_id = q.id
  join odf.data_set x on x.data_set_id = k.data_set_id
  left join odf.publication m on m.chunk_id = q.id and m.generation = coalesce(q.gen, s.generation)
 order by g.n, q.place
