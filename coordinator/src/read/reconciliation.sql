-- Some chunks as they are now, and the publications from which the published generation of each was
-- made, up to those that know what they hold: each by primary key, so that a page costs a page.
with recursive root as (
  select s.chunk_id, s.generation, s.removed, l.attempt as busy,
         r.generation as seen_generation, r.verdict as seen_verdict, r.cutoff as seen_cutoff, r.today_sum is not null as seen_today
    from unnest($1::bigint[]) u(id)
    join odf.chunk_state s on s.chunk_id = u.id
    left join odf.lease l on l.chunk_id = s.chunk_id
    left join odf.reconciliation r on r.chunk_id = s.chunk_id
), way as (
  select r.chunk_id as root, null::bigint as parent, 0 as depth, p.chunk_id, p.generation, p.published_at, p.rows_out, p.bytes_out,
         p.checksum, p.location, p.validation::jsonb as found, p.input_ids, p.input_gens
    from root r join odf.publication p on p.chunk_id = r.chunk_id and p.generation = r.generation
  union all
  select w.root, w.chunk_id, w.depth + 1, p.chunk_id, p.generation, p.published_at, p.rows_out, p.bytes_out,
         p.checksum, p.location, p.validation::jsonb, p.input_ids, p.input_gens
    from way w
    cross join lateral unnest(w.input_ids, w.input_gens) i(id, gen)
    join odf.publication p on p.chunk_id = i.id and p.generation = i.gen
   where w.depth < 100 and not (coalesce(w.found, '{}') ?& array['rows', 'row_sum'])
)
select r.chunk_id, r.generation, r.removed, r.busy, r.seen_generation, r.seen_verdict, r.seen_cutoff, r.seen_today,
       (select coalesce(jsonb_agg(jsonb_build_object('chunk_id', w.chunk_id, 'parent', w.parent, 'depth', w.depth,
                 'data_set_id', d.data_set_id, 'dataset', f.name || ':' || d.name, 'key', c.key, 'generation', w.generation,
                 'published_at', w.published_at, 'rows_out', w.rows_out, 'bytes_out', w.bytes_out, 'checksum', w.checksum,
                 'location', w.location, 'inputs', cardinality(w.input_ids),
                 'rows', (w.found ->> 'rows')::bigint, 'row_sum', w.found ->> 'row_sum',
                 -- Without a header line the columns of a csv file are named by their places.
                 'by_place', d.spec @? '$.**.csv.header ? (@ == false)')
                 order by w.depth, w.chunk_id), '[]')
          from way w
          join odf.data_chunk c on c.chunk_id = w.chunk_id
          join odf.data_set d on d.data_set_id = c.data_set_id
          join odf.flow f using (flow_id)
         where w.root = r.chunk_id) as way
  from root r
