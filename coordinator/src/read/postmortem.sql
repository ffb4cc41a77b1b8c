-- Attempts of a window that published nothing, with what has become of their chunks.
select a.chunk_id, d.name as dataset, c.key, a.ended_at, a.outcome, a.class, a.charged, a.worker, a.host, a.error, a.evidence,
       odf.shown_status(s.chunk_id, s.status)::text as status_now, s.generation as generation_now, p.evidence as evidence_now
  from (select * from odf.attempt where ended_at >= $1 and ended_at < $2 and outcome <> 'validated' order by ended_at limit $4) a
  join odf.data_chunk c using (chunk_id)
  join odf.data_set d using (data_set_id)
  join odf.flow f using (flow_id)
  join odf.chunk_state s using (chunk_id)
  left join odf.publication p on p.chunk_id = s.chunk_id and p.generation = s.generation
 where $3::text is null or f.name = $3
 order by a.ended_at, a.chunk_id
