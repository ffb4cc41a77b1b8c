-- Chunks by a selector, the same for every client: {flow, dataset, keys: [..], from, to (ordinals),
-- ranges: [[first, last, step], ..] (ordinals), status: [..], stale: true, error (substring), worker,
-- limit, after}. Only chunks of sealed plans in force.
create or replace function odf.select_chunks(p_selector jsonb) returns setof bigint
language plpgsql stable security definer set search_path = odf, pg_temp as $$
declare
  v_name text := p_selector ->> 'dataset';
  v_version int;
begin
  if v_name is not null and not exists (
    select from data_set d join flow f using (flow_id) where d.name = v_name and not d.retired
       and (not p_selector ? 'flow' or f.name = p_selector ->> 'flow')) then
    select max(v.version) into v_version from data_set d join flow f using (flow_id) join flow_version v using (flow_id)
     where d.name = v_name and d.retired and v.model -> 'datasets' ? v_name
       and (not p_selector ? 'flow' or f.name = p_selector ->> 'flow');
    if v_version is not null then
      raise exception 'data set % is retired: version % of its flow was the last to declare it', quote_literal(v_name), v_version
        using errcode = 'OD011', hint = 'Its publications are kept. Declare it and its job again and apply the flow to work on it.';
    end if;
    raise exception 'no data set named %', quote_literal(v_name) using errcode = 'OD010',
      hint = coalesce('Data sets: ' || (select string_agg(name, ', ' order by name) from data_set where not retired), 'No flow is applied yet.');
  end if;
  -- Planned for each selector: what is not asked for falls away, and stale chunks come by their index.
  return query execute $q$
    select c.chunk_id
      from odf.data_set d join odf.flow f using (flow_id)
      join odf.data_chunk c on c.plan_id = d.plan_id
      join odf.chunk_state s on s.chunk_id = c.chunk_id
     where not d.retired
       and (not $1 ? 'flow' or f.name = $1 ->> 'flow')
       and (not $1 ? 'dataset' or d.name = $1 ->> 'dataset')
       and (not $1 ? 'keys' or c.key = any (array(select jsonb_array_elements_text($1 -> 'keys'))))
       and (not $1 ? 'from' or c.ordinal >= ($1 ->> 'from')::bigint)
       and (not $1 ? 'to' or c.ordinal <= ($1 ->> 'to')::bigint)
       and (not $1 ? 'ranges' or exists (
             select from jsonb_array_elements($1 -> 'ranges') r
              where c.ordinal between (r ->> 0)::bigint and (r ->> 1)::bigint and (c.ordinal - (r ->> 0)::bigint) % (r ->> 2)::bigint = 0))
       and (not $1 ? 'after' or c.chunk_id > ($1 ->> 'after')::bigint)
       and (not $1 ? 'error' or position(lower($1 ->> 'error') in lower(coalesce(s.reason, ''))) > 0)
       and (not $1 ? 'worker' or exists (
             select from odf.lease l join odf.worker_session x using (session_id) join odf.worker w using (worker_id)
              where l.chunk_id = c.chunk_id and w.name = $1 ->> 'worker'))
       -- As odf.shown_status, but without a call for every row.
       and (not $1 ? 'status' or coalesce(
             (select r.verb from odf.chunk_request r where r.chunk_id = c.chunk_id order by r.request_id desc limit 1),
             (select 'running' from odf.lease l where l.chunk_id = c.chunk_id), s.status::text)
             = any (array(select jsonb_array_elements_text($1 -> 'status'))))
    $q$ || case when (p_selector ->> 'stale')::boolean then ' and s.stale_since is not null' else '' end
    || $q$ order by c.chunk_id limit ($1 ->> 'limit')::bigint $q$
    using p_selector;
end $$;

-- What people see: a live lease makes a ready chunk running, a request for it resubmit (or held,
-- cancelled) at once.
create or replace function odf.shown_status(p_chunk bigint, p_status odf.chunk_status) returns odf.chunk_status
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return coalesce(
    (select r.verb::chunk_status from chunk_request r where r.chunk_id = p_chunk order by request_id desc limit 1),
    (select 'running'::chunk_status from lease where chunk_id = p_chunk),
    p_status);
end $$;

-- Whether a request makes sense for a chunk: its state may go there, and a job makes it.
create or replace function odf.may_request(c odf.chunk_state, p_verb text) returns boolean
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return exists (select from job j where j.data_set_id = c.data_set_id and not j.retired)
     and (case when p_verb = 'resubmit' then c.status in ('waiting')
               or exists (select from chunk_transition t where t.old_status = c.status and t.new_status = 'waiting')
               else exists (select from chunk_transition t where t.old_status = c.status and t.new_status = p_verb::chunk_status) end);
end $$;

-- Lets approved chunks be consumed.
create or replace function odf.approve(p_selector jsonb, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_ids bigint[];
begin
  perform odf.demand_read_committed();
  select array_agg(id) into v_ids from odf.select_chunks(p_selector || '{"status": ["complete"]}') id;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  update chunk_state set status = 'validated', changed_at = odf.clock() where chunk_id = any (v_ids) and status = 'complete';
  perform odf.promote_chunks(array(select e.chunk_id from chunk_edge e where e.input_id = any (v_ids)));
  perform odf.log_event('chunks.approved', p_selector ->> 'dataset', format('%s chunks: %s', coalesce(cardinality(v_ids), 0), coalesce(p_reason, '')), p_selector);
  return jsonb_build_object('approved', coalesce(cardinality(v_ids), 0));
end $$;
