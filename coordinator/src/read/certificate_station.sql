-- One data set in figures: its plan with the digest computed anew as the seal did, and what the
-- published generation of each chunk is. O(chunks), for a document that is written once.
with mine as (
  select d.data_set_id, d.plan_id, j.job_id
    from odf.data_set d left join odf.job j on j.data_set_id = d.data_set_id and not j.retired
   where d.data_set_id = $1
), mark as (
  -- What the whole inputs are at now, as a claim would pin it.
  select array(
    select (x.mark_base + coalesce((select sum(generations) from odf.progress_now p where p.data_set_id = i.data_set_id), 0))::bigint
      from odf.job_input i join odf.data_set x using (data_set_id)
     where i.job_id = (select job_id from mine) and i.mapping = 'all' order by i.position) as now
), plan as (
  select encode(sha256(convert_to(coalesce(string_agg(md5(c.key || c.bounds::text), '' order by c.ordinal), ''), 'UTF8')), 'hex') as computed
    from odf.data_chunk c where c.plan_id = (select plan_id from mine)
), chunk as (
  select s.status, s.generation, s.removed, p.chunk_id is not null as kept, p.rows_out, p.bytes_out, p.published_at,
         coalesce(p.validation::jsonb, '{}') as found,
         exists (select from unnest(p.input_ids, p.input_gens) u(id, gen) join odf.chunk_state t on t.chunk_id = u.id where t.generation <> u.gen)
           or p.fan_in_mark <> (select now from mark) as stale
    from odf.data_chunk c
    join odf.chunk_state s using (chunk_id)
    left join odf.publication p on p.chunk_id = c.chunk_id and p.generation = s.generation
   where c.plan_id = (select plan_id from mine)
), figures as (
  select count(*) as chunks, count(*) filter (where generation >= 1) as published,
         count(*) filter (where status = 'validated') as validated, count(*) filter (where removed) as removed,
         count(*) filter (where kept and not found ? 'format' and jsonb_array_length(coalesce(found -> 'rules', '[]')) = 0) as unvalidated,
         count(*) filter (where found @> '{"rules": [{"ok": false}]}') as forced,
         count(*) filter (where stale) as stale,
         sum(rows_out)::bigint as rows, sum(bytes_out)::bigint as bytes,
         min(published_at) as first_published, max(published_at) as last_published
    from chunk
)
select y.version as plan_version, y.chunks as sealed_chunks, y.digest as sealed_digest, y.sealed_at, plan.computed as computed_digest, figures.*
  from mine left join odf.plan y using (plan_id), plan, figures
