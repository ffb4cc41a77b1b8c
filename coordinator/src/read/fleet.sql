-- Who leads and who works, in one row. A worker beats every few seconds: one that has not for a minute
-- is silent, also where no coordinator leads that would say so.
select odf.clock() as now,
       l.term, l.holder, l.expires > clock_timestamp() as leads, case when l.since > '-infinity' then l.since end as since,
       (select coalesce(jsonb_agg(jsonb_build_object('name', w.name,
               'state', case when s.beat_at < odf.clock() - interval '1 minute' then 'silent' else s.state end, 'draining', w.draining, 'labels', s.labels,
               'slots', least(s.slots, coalesce(w.slots_limit, s.slots)),
               'running', (select count(*) from odf.lease x where x.session_id = s.session_id)) order by w.name), '[]')
          from odf.worker_session s join odf.worker w using (worker_id) where s.state in ('active', 'silent')) as workers,
       (select count(*) from odf.lease) as running,
       (select count(*) from (select from odf.chunk_request limit 10000) q) as pending,
       (select coalesce(sum(n), 0)::bigint from odf.bug_count) as repairs
  from odf.leader l
