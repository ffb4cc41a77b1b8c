-- The rules that were checked before the published generations became visible, with how often each held.
select r ->> 'rule' as rule, coalesce(r ->> 'severity', 'fail') as severity,
       count(*) filter (where (r ->> 'ok')::boolean) as held, count(*) filter (where not (r ->> 'ok')::boolean) as failed
  from odf.data_set d
  join odf.data_chunk c on c.plan_id = d.plan_id
  join odf.chunk_state s on s.chunk_id = c.chunk_id
  join odf.publication p on p.chunk_id = c.chunk_id and p.generation = s.generation
  cross join lateral jsonb_array_elements(coalesce(p.validation::jsonb -> 'rules', '[]')) r
 where d.data_set_id = $1
 group by 1, 2 order by 1, 2
