-- What a claim would hand out for one chunk, without claiming it: for 'worker try'. Its fence is of
-- epoch 0, which no claim ever hands out, so nothing made with it can pass for a real attempt's.
-- p_name: dataset/key or flow:dataset/key. Answers a claim's leases and jobs, and the chunk's state.
create or replace function odf.peek(p_name text) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
declare
  v_flow text := case when split_part(p_name, '/', 1) like '%:%' then split_part(p_name, ':', 1) end;
  v_rest text := case when v_flow is null then p_name else substr(p_name, length(v_flow) + 2) end;
  v_set text := split_part(v_rest, '/', 1);
  v_key text := substr(v_rest, length(v_set) + 2);
  c data_chunk;
  j job;
  l lease;
begin
  begin
    select k.* into strict c
      from data_chunk k join data_set d on d.plan_id = k.plan_id join flow f using (flow_id)
     where d.name = v_set and k.key = v_key and (v_flow is null or f.name = v_flow) and not d.retired;
  exception
    when no_data_found then
      raise exception 'no chunk named %', quote_literal(p_name) using errcode = 'OD010',
        hint = case when exists (select from data_set where name = v_set and not retired)
                       and not exists (select from data_set where name = v_set and not retired and plan_id is not null)
                    then format('Data set %s is not cut into chunks yet: that is done while a coordinator runs (coordinator serve).', v_set)
                    when exists (select from data_set where name = v_set and not retired)
                    then format('Data set %s has chunks such as %s.', v_set,
                           (select min(v_set || '/' || k.key) from (select k.key from data_chunk k join data_set d on d.plan_id = k.plan_id
                              where d.name = v_set and not d.retired order by k.ordinal limit 1) k))
                    else 'Name it dataset/key, as ''coordinator chunks'' prints it.' end;
    when too_many_rows then
      raise exception 'several flows have a chunk named %', quote_literal(p_name) using errcode = 'OD002',
        hint = 'Name it flow:dataset/key.';
  end;
  select * into j from job where data_set_id = c.data_set_id and not retired;
  if not found then
    raise exception 'chunk % belongs to a source: no job makes it', quote_literal(p_name) using errcode = 'OD011',
      hint = 'Try a chunk of a data set that a job makes.';
  end if;
  select c.chunk_id, s.attempt_no + 1, s.attempt_no + 1, 0, n.lane_id, j.job_id, c.data_set_id, 0, j.silence, odf.clock()
    into l.chunk_id, l.fence, l.attempt, l.session_id, l.lane_id, l.job_id, l.data_set_id, l.request_no, l.silence, l.claimed_at
    from chunk_state s, lane n where s.chunk_id = c.chunk_id and n.job_id = j.job_id;
  select coalesce(array_agg(i.chunk_id order by i.chunk_id), '{}'), coalesce(array_agg(i.generation order by i.chunk_id), '{}')
    into l.input_ids, l.input_gens
    from chunk_edge e join chunk_state i on i.chunk_id = e.input_id where e.chunk_id = c.chunk_id;
  return jsonb_build_object('answer', 'leases',
    'leases', jsonb_build_array(odf.work_item(l)),
    'jobs', jsonb_build_object(j.job_id, j.spec),
    'status', (select odf.shown_status(c.chunk_id, s.status) from chunk_state s where s.chunk_id = c.chunk_id));
end $$;

-- Pages through the chunks that a peeked chunk's job takes whole: up to p_limit after a chunk id.
create or replace function odf.peek_inputs(p_chunk bigint, p_after bigint, p_limit int) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(odf.input_chunk(x.chunk_id, x.generation) order by x.chunk_id), '[]')
      from (select k.chunk_id, st.generation
              from data_chunk c
              join job j on j.data_set_id = c.data_set_id and not j.retired
              join job_input i on i.job_id = j.job_id and i.mapping = 'all'
              join data_set d on d.data_set_id = i.data_set_id
              join data_chunk k on k.plan_id = d.plan_id
              join chunk_state st on st.chunk_id = k.chunk_id
             where c.chunk_id = p_chunk and k.chunk_id > p_after and st.status <> 'split'
             order by k.chunk_id limit p_limit) x);
end $$;
