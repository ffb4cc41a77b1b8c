-- What data sets are taken whole: $2 false, by the chunks of $1 (their inputs, with the publications of
-- the data set that a chunk was made from, and those now); $2 true, by others that take theirs.
select g.n as of_n, x.name as dataset, l.chunks, j.name as job,
       case when not $2 then m.mark[i.place] end as read,
       case when not $2 then coalesce((select sum(generations) from odf.progress_now y where y.data_set_id = i.data_set_id), 0)::bigint end as now,
       (select count(*) from odf.chunk_state t where t.data_set_id = x.data_set_id and t.stale_since is not null) as stale,
       (select c.chunk_id from odf.data_chunk c where c.plan_id = x.plan_id and c.ordinal = 1 and l.chunks = 1 and $2) as only_chunk
  from unnest($1::bigint[], $3::int[]) with ordinality g(id, gen, n)
  join odf.data_chunk k on k.chunk_id = g.id
  join (select job_id, data_set_id, row_number() over (partition by job_id order by position) as place
          from odf.job_input where mapping = 'all') i on not $2 or i.data_set_id = k.data_set_id
  join odf.job j on j.job_id = i.job_id and not j.retired and ($2 or j.data_set_id = k.data_set_id)
  join odf.data_set x on x.data_set_id = case when $2 then j.data_set_id else i.data_set_id end and not x.retired
  left join odf.plan l on l.plan_id = x.plan_id
  left join lateral (select p.fan_in_mark as mark from odf.publication p where p.chunk_id = g.id and p.generation = g.gen) m on true
 order by g.n, i.place, j.name
