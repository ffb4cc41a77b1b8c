-- The chunks of a data set in the order of their plan: what is published, what it passed, and what
-- comparing it with its source came to. $2 takes only those that are not as they should be, $3 says that
-- it is the target, $4 how many are listed at most.
with mark as (
  -- What the whole inputs are at now, as a claim would pin it.
  select array(
    select (x.mark_base + coalesce((select sum(generations) from odf.progress_now p where p.data_set_id = i.data_set_id), 0))::bigint
      from odf.job_input i join odf.data_set x using (data_set_id) join odf.job j using (job_id)
     where j.data_set_id = $1 and not j.retired and i.mapping = 'all' order by i.position) as now
)
select c.key, s.status::text as status, s.generation, p.published_at, p.worker, p.rows_out as rows, p.bytes_out as bytes,
       r.verdict, r.expected_rows, r.expected_sum, r.expected_from, r.found_rows, r.found_sum, r.reason, r.keys, r.checked_at, r.checked_by,
       array_remove(array[
         case when s.generation = 0 then 'not published: ' || s.status || coalesce(' (' || s.reason || ')', '')
              when s.status <> 'validated' then 'published and not validated: ' || s.status || coalesce(' (' || s.reason || ')', '') end,
         case when p.chunk_id is not null and not coalesce(p.validation::jsonb, '{}') ? 'format'
               and jsonb_array_length(coalesce(p.validation::jsonb -> 'rules', '[]')) = 0 then 'published unvalidated' end,
         (select 'published though a rule had failed: ' || string_agg(format('%s = %s', q ->> 'rule', q ->> 'found'), ', ')
            from jsonb_array_elements(coalesce(p.validation::jsonb -> 'rules', '[]')) q where not (q ->> 'ok')::boolean),
         (select format('stale: made from generation %s of %s, which is at generation %s', u.gen, i.key, t.generation)
            from unnest(p.input_ids, p.input_gens) u(id, gen) join odf.chunk_state t on t.chunk_id = u.id
            join odf.data_chunk i on i.chunk_id = u.id
           where t.generation <> u.gen order by u.id limit 1),
         case when p.fan_in_mark <> (select now from mark) then 'stale: a data set that it takes whole was published again' end,
         case when $3 and s.removed then 'its data was removed under the keep rule' end,
         case when $3 and s.generation >= 1 and r.verdict is null then 'not compared with its source' end,
         case when r.verdict in ('differs', 'unknown') then r.verdict || ': ' || r.reason end,
         case when r.verdict = 'rows_equal' then 'compared by rows only' end], null) as exceptions
  from odf.data_set d
  join odf.data_chunk c on c.plan_id = d.plan_id
  join odf.chunk_state s on s.chunk_id = c.chunk_id
  left join odf.publication p on p.chunk_id = c.chunk_id and p.generation = s.generation
  left join odf.reconciliation r on $3 and r.chunk_id = c.chunk_id and r.generation = s.generation
 where d.data_set_id = $1
   and (not $2 or s.generation = 0 or s.status <> 'validated' or ($3 and (s.removed or r.verdict is distinct from 'equal'))
        or (p.chunk_id is not null
            and not (coalesce(p.validation::jsonb, '{}') ? 'format' and not coalesce(p.validation::jsonb, '{}') @> '{"rules": [{"ok": false}]}'))
        or exists (select from unnest(p.input_ids, p.input_gens) u(id, gen) join odf.chunk_state t on t.chunk_id = u.id where t.generation <> u.gen)
        or p.fan_in_mark <> (select now from mark))
 order by c.ordinal
 limit $4
