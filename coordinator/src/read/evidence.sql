-- What the published chunks of a data set answered, passed and came to, over at most $2 of its chunks
-- taken evenly from the plan, each by primary key: a bounded cost whatever the plan's size. All of them
-- where $2 is no less than the plan.
with mine as (
  select p.plan_id, p.chunks, least(p.chunks, $2::bigint) as looked, j.job_id
    from odf.data_set d join odf.plan p on p.plan_id = d.plan_id
    join odf.job j on j.data_set_id = d.data_set_id and not j.retired
   where d.data_set_id = $1
), mark as (
  -- What the whole inputs are at now, as a claim would pin it.
  select array(
    select (x.mark_base + coalesce((select sum(generations) from odf.progress_now p where p.data_set_id = i.data_set_id), 0))::bigint
      from odf.job_input i join odf.data_set x using (data_set_id)
     where i.job_id = (select job_id from mine) and i.mapping = 'all' order by i.position) as now
), pick as (
  select c.chunk_id
    from mine, generate_series(0, mine.looked - 1) n
    join lateral (select chunk_id from odf.data_chunk c where c.plan_id = mine.plan_id and c.ordinal = n * mine.chunks / mine.looked + 1 offset 0) c on true
), chunk as (
  select p.evidence, p.validation::jsonb as found, r.verdict,
         exists (select from unnest(p.input_ids, p.input_gens) u(id, gen) join odf.chunk_state t on t.chunk_id = u.id where t.generation <> u.gen)
           or p.fan_in_mark <> (select now from mark) as stale
    from pick
    join odf.chunk_state s using (chunk_id)
    join odf.publication p on p.chunk_id = s.chunk_id and p.generation = s.generation
    left join odf.reconciliation r on r.chunk_id = s.chunk_id and r.generation = s.generation
), answer as (
  select jsonb_path_query_array(evidence::jsonb, '$.inputs[*].how') as how, count(*) as n from chunk where evidence is not null group by 1
)
select m.chunks, m.looked, f.*,
       (select coalesce(jsonb_agg(jsonb_build_object('how', a.how, 'n', a.n) order by a.n desc, a.how), '[]')
          from (select * from answer order by n desc, how limit 100) a) as answers
  from mine m,
       (select count(*) as published, count(*) filter (where evidence is null) as without,
               count(*) filter (where not coalesce(found, '{}') ? 'format' and jsonb_array_length(coalesce(found -> 'rules', '[]')) = 0) as unvalidated,
               count(*) filter (where found @> '{"rules": [{"ok": false}]}') as forced,
               count(*) filter (where stale) as stale,
               count(*) filter (where verdict = 'equal') as equal, count(*) filter (where verdict = 'rows_equal') as rows_equal,
               count(*) filter (where verdict = 'differs') as differs, count(*) filter (where verdict = 'unknown') as unknown
          from chunk) f
