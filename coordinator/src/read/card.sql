-- What the inputs of a chunk answered when its newest generation was made, what was expected of them,
-- and what they are now. Inputs of a chunk that was never published are those it waits for.
with made as (
  select p.generation, p.attempt, p.worker, p.claimed_at, p.evidence, p.input_ids, p.input_gens
    from odf.publication p where p.chunk_id = $1 order by p.generation desc limit 1
), named as (
  select u.id, u.gen, u.n from made m, unnest(m.input_ids, m.input_gens) with ordinality u(id, gen, n)
  union all
  select e.input_id, null, row_number() over (order by e.input_id)
    from odf.chunk_edge e where e.chunk_id = $1 and not exists (select from made)
)
select (select to_jsonb(m) - 'input_ids' - 'input_gens' from made m) as made,
       (select count(*) from named) as inputs,
       (select coalesce(jsonb_agg(to_jsonb(q) order by q.n), '[]') from (
          select n.n, d.name || '/' || c.key as name, n.gen as generation,
                 p.attempt, p.worker, p.published_at, p.rows_out as rows, p.bytes_out as bytes, p.checksum, p.location,
                 p.connection, p.environment, p.validation,
                 s.generation as generation_now, odf.shown_status(c.chunk_id, s.status) as status_now, s.reason as reason_now,
                 s.removed as removed_now, d.spec #>> '{at,connection}' as connection_now,
                 not exists (select from odf.job j where j.data_set_id = c.data_set_id) as source
            from named n join odf.data_chunk c on c.chunk_id = n.id
            join odf.data_set d on d.data_set_id = c.data_set_id
            join odf.chunk_state s on s.chunk_id = n.id
            left join odf.publication p on p.chunk_id = n.id and p.generation = coalesce(n.gen, s.generation)
           where n.n <= $2 or s.generation <> n.gen or s.status <> 'validated'
           order by s.generation <> n.gen desc nulls last, n.n limit $2) q) as cards
