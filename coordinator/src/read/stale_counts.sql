-- Stale chunks by data set: reads the index of stale chunks and nothing for what is up to date. Only
-- where a data set was planned again are the chunks of its older plans told apart.
select d.data_set_id, f.name as flow, d.name as dataset, s.n as chunks, s.since
  from odf.data_set d join odf.flow f using (flow_id)
  cross join lateral (
    select count(*) as n, min(t.stale_since) as since
      from odf.chunk_state t
     where t.data_set_id = d.data_set_id and t.stale_since is not null
       and (not exists (select from odf.plan o where o.data_set_id = d.data_set_id and o.plan_id <> d.plan_id)
            or exists (select from odf.data_chunk c where c.chunk_id = t.chunk_id and c.plan_id = d.plan_id))) s
 where not d.retired and s.n > 0
   and ($1::text is null or f.name = $1) and ($2::int is null or d.data_set_id = $2)
 order by d.data_set_id
