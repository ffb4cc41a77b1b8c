-- The leases of one claim with all that their attempts need, in one value (WorkItem and JobSpec in
-- common/src/domain/lease.rs are its shape).
create or replace function odf.work_items(p_session bigint, p_request bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return jsonb_build_object('answer', 'leases',
    'leases', (select coalesce(jsonb_agg(odf.work_item(l) order by l.chunk_id), '[]')
                 from lease l where l.session_id = p_session and l.request_no = p_request),
    'jobs', (select coalesce(jsonb_object_agg(j.job_id, j.spec), '{}')
               from job j where j.job_id in (select job_id from lease where session_id = p_session and request_no = p_request)));
end $$;

create or replace function odf.work_item(l odf.lease) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return (
    select jsonb_build_object(
      'chunk_id', c.chunk_id, 'flow', f.name, 'dataset', d.name, 'key', c.key, 'ordinal', c.ordinal,
      'plan_chunks', p.chunks, 'bounds', c.bounds, 'attempt', l.attempt, 'fence', l.fence,
      'generation', s.generation + 1, 'lane_id', l.lane_id, 'job_id', j.job_id, 'job_version', j.version,
      'inputs', (select coalesce(jsonb_agg(odf.input_chunk(u.id, u.gen) || jsonb_build_object('mapping', e.mapping)
                                          order by i.position, ic.ordinal), '[]')
                   from unnest(l.input_ids, l.input_gens) as u(id, gen)
                   join data_chunk ic on ic.chunk_id = u.id
                   join chunk_edge e on e.input_id = u.id and e.chunk_id = l.chunk_id
                   join job_input i on i.job_id = j.job_id and i.data_set_id = ic.data_set_id and i.mapping = e.mapping),
      'fan_in', (select coalesce(jsonb_agg(x.name order by i.position), '[]')
                   from job_input i join data_set x using (data_set_id)
                  where i.job_id = j.job_id and i.mapping = 'all'))
      from data_chunk c
      join chunk_state s using (chunk_id)
      join plan p on p.plan_id = c.plan_id
      join data_set d on d.data_set_id = c.data_set_id
      join flow f using (flow_id)
      join job j on j.job_id = l.job_id
     where c.chunk_id = l.chunk_id);
end $$;

create or replace function odf.input_chunk(p_chunk bigint, p_generation int) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return (
    select jsonb_build_object(
      'dataset', d.name, 'at', d.spec -> 'at', 'chunk_id', c.chunk_id, 'key', c.key, 'ordinal', c.ordinal,
      'bounds', c.bounds, 'generation', p_generation, 'location', p.location, 'rows', p.rows_out,
      'bytes', p.bytes_out, 'checksum', p.checksum, 'connection', p.connection, 'environment', p.environment,
      'validation', p.validation, 'attempt', p.attempt, 'published_by', p.worker,
      'verify', coalesce(d.spec ->> 'verify', 'checksum'))
      from data_chunk c join data_set d using (data_set_id)
      left join publication p on p.chunk_id = c.chunk_id and p.generation = p_generation
     where c.chunk_id = p_chunk);
end $$;

-- Pages through the chunks of inputs that a leased attempt takes whole: up to p_limit after a chunk id.
create or replace function odf.attempt_inputs(
  p_session bigint, p_key bytea, p_chunk bigint, p_fence bigint, p_after bigint, p_limit int) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  s worker_session := odf.session_of(p_session, p_key, false);
begin
  return (
    select coalesce(jsonb_agg(odf.input_chunk(x.chunk_id, x.generation) order by x.chunk_id), '[]')
      from (select c.chunk_id, st.generation
              from lease l
              join job_input i on i.job_id = l.job_id and i.mapping = 'all'
              join data_set d on d.data_set_id = i.data_set_id
              join data_chunk c on c.plan_id = d.plan_id
              join chunk_state st on st.chunk_id = c.chunk_id
             where l.chunk_id = p_chunk and l.fence = p_fence and l.session_id = s.session_id
               and c.chunk_id > p_after and st.status <> 'split'
             order by c.chunk_id limit p_limit) x);
end $$;
