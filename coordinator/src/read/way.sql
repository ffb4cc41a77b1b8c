-- A data set and all that it is made from, itself first, sources last: where each is declared to be and
-- which plan is in force. A way is short; chunks are not looked at.
with recursive up as (
  select $1::int as data_set_id, 0 as depth
  union
  select i.data_set_id, u.depth + 1
    from up u
    join odf.job j on j.data_set_id = u.data_set_id and not j.retired
    join odf.job_input i using (job_id)
   where u.depth < 100
)
select d.data_set_id, f.name as flow, d.name, d.spec, d.plan_id,
       v.model -> 'connections' -> (d.spec #>> '{at,connection}') as connection,
       exists (select from odf.job j where j.data_set_id = d.data_set_id and not j.retired) as made
  from (select data_set_id, max(depth) as depth from up group by data_set_id) u
  join odf.data_set d using (data_set_id)
  join odf.flow f using (flow_id)
  join odf.flow_version v on v.flow_id = f.flow_id and v.version = f.current_version
 order by u.depth, d.data_set_id
