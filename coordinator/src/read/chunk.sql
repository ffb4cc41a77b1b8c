-- Everything about one chunk that its explanation rests on, in one snapshot.
select c.chunk_id, c.ordinal, c.bounds, c.est_rows, c.est_bytes, p.chunks as plan_chunks, p.version as plan_version,
       s.status::text as stored, s.attempt_no - c.attempt_base as attempt_no, s.charged, s.lost, s.generation, s.last_fence, s.rows_out, s.bytes_out,
       s.retry_at, s.reason, s.changed_at, s.stale_since, s.hold_until,
       (select jsonb_build_object('worker', w.name, 'host', x.host, 'session_state', x.state, 'attempt', l.attempt, 'fence', l.fence,
               'claimed_at', l.claimed_at, 'abort', l.abort, 'abort_why', l.abort_why, 'rows', l.rows_done, 'bytes', l.bytes_done)
          from odf.lease l join odf.worker_session x using (session_id) join odf.worker w using (worker_id)
         where l.chunk_id = c.chunk_id) as lease,
       (select jsonb_build_object('verb', r.verb, 'reason', r.reason, 'by', r.requested_by, 'at', r.requested_at)
          from odf.chunk_request r where r.chunk_id = c.chunk_id order by r.request_id desc limit 1) as request,
       (select jsonb_build_object('name', j.name, 'version', j.version, 'max_attempts', j.max_attempts,
               'script', j.spec #>> '{job,run,script,script}')
          from odf.job j where j.data_set_id = c.data_set_id and not j.retired) as job,
       (select coalesce(jsonb_agg(to_jsonb(q) order by q.name), '[]') from (
          select d.name || '/' || i.key as name, odf.shown_status(i.chunk_id, t.status) as status, t.generation, t.retry_at, t.reason
            from odf.chunk_edge e join odf.data_chunk i on i.chunk_id = e.input_id
            join odf.data_set d on d.data_set_id = i.data_set_id join odf.chunk_state t on t.chunk_id = i.chunk_id
           where e.chunk_id = c.chunk_id order by t.status = 'validated', i.chunk_id limit 20) q) as inputs,
       (select jsonb_build_object('dataset', d.name, 'wanted', g.wanted, 'is_key', g.is_key, 'of', count(*) over ())
          from odf.chunk_gap g join odf.data_set d using (data_set_id)
         where g.chunk_id = c.chunk_id order by d.name, g.wanted limit 1) as gap,
       (select coalesce(jsonb_agg(to_jsonb(q) order by q.name), '[]') from (
          select d.name || '/' || o.key as name, odf.shown_status(o.chunk_id, t.status) as status, t.generation, t.retry_at, t.reason
            from odf.chunk_edge e join odf.data_chunk o on o.chunk_id = e.chunk_id
            join odf.data_set d on d.data_set_id = o.data_set_id join odf.chunk_state t on t.chunk_id = o.chunk_id
           where e.input_id = c.chunk_id order by o.chunk_id limit 20) q) as consumers,
       array(select j.name from odf.job_input i join odf.job j using (job_id)
              where i.data_set_id = c.data_set_id and i.mapping = 'all' and not j.retired order by j.name) as whole_consumers,
       array(select y.version from odf.plan y where y.data_set_id = c.data_set_id and y.state = 'retired'
                and exists (select from odf.data_chunk z where z.plan_id = y.plan_id and z.key = c.key) order by y.version) as earlier,
       (select q.ahead from (
          select r.chunk_id, row_number() over (order by r.seq) - 1 as ahead from (
            select y.chunk_id, y.seq from odf.ready y join odf.lane l using (lane_id) join odf.job j using (job_id)
             where j.data_set_id = c.data_set_id and y.seq >= l.floor_seq order by y.seq limit 10000) r) q
         where q.chunk_id = c.chunk_id order by q.ahead limit 1) as ahead
  from odf.data_chunk c
  join odf.plan p using (plan_id)
  join odf.chunk_state s using (chunk_id)
 where c.chunk_id = $1
