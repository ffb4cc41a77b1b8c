-- Chunks by a selector, the same for every client: {flow, dataset, keys: [..], from, to (ordinals),
-- ranges: [[first, last, step], ..] (ordinals), status: [..], error (substring), worker, limit, after}.
-- Only chunks of sealed plans in force.
create or replace function odf.select_chunks(p_selector jsonb) returns setof bigint
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  if p_selector ? 'dataset' and not exists (
    select from data_set d join flow f using (flow_id) where d.name = p_selector ->> 'dataset' and not d.retired
       and (not p_selector ? 'flow' or f.name = p_selector ->> 'flow')) then
    raise exception 'no data set named %', quote_literal(p_selector ->> 'dataset') using errcode = 'OD010',
      hint = coalesce('Data sets: ' || (select string_agg(name, ', ' order by name) from data_set where not retired), 'No flow is applied yet.');
  end if;
  return query
    select c.chunk_id
      from data_set d join flow f using (flow_id)
      join data_chunk c on c.plan_id = d.plan_id
      join chunk_state s on s.chunk_id = c.chunk_id
     where not d.retired
       and (not p_selector ? 'flow' or f.name = p_selector ->> 'flow')
       and (not p_selector ? 'dataset' or d.name = p_selector ->> 'dataset')
       and (not p_selector ? 'keys' or c.key = any (array(select jsonb_array_elements_text(p_selector -> 'keys'))))
       and (not p_selector ? 'from' or c.ordinal >= (p_selector ->> 'from')::bigint)
       and (not p_selector ? 'to' or c.ordinal <= (p_selector ->> 'to')::bigint)
       and (not p_selector ? 'ranges' or exists (
             select from jsonb_array_elements(p_selector -> 'ranges') r
              where c.ordinal between (r ->> 0)::bigint and (r ->> 1)::bigint and (c.ordinal - (r ->> 0)::bigint) % (r ->> 2)::bigint = 0))
       and (not p_selector ? 'after' or c.chunk_id > (p_selector ->> 'after')::bigint)
       and (not p_selector ? 'error' or position(lower(p_selector ->> 'error') in lower(coalesce(s.reason, ''))) > 0)
       and (not p_selector ? 'worker' or exists (
             select from lease l join worker_session x using (session_id) join worker w using (worker_id)
              where l.chunk_id = c.chunk_id and w.name = p_selector ->> 'worker'))
       -- As odf.shown_status, but without a call for every row.
       and (not p_selector ? 'status' or coalesce(
             (select r.verb from chunk_request r where r.chunk_id = c.chunk_id order by r.request_id desc limit 1),
             (select 'running' from lease l where l.chunk_id = c.chunk_id), s.status::text)
             = any (array(select jsonb_array_elements_text(p_selector -> 'status'))))
     order by c.chunk_id
     limit (p_selector ->> 'limit')::bigint;
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

-- Asks for chunks to be resubmitted, held or cancelled. Answers what was matched, what is done, what
-- waits for a running attempt or reader to end, and what was refused, by state.
create or replace function odf.request(p_verb text, p_selector jsonb, p_reason text, p_dry_run boolean default false, p_at_once boolean default false)
returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_reason text := coalesce(nullif(p_reason, ''), 'asked for by ' || session_user);
  v_all bigint[];
  v_ok bigint[];
  v_refused jsonb;
  v_states jsonb;
begin
  perform odf.demand_read_committed();
  if p_verb not in ('resubmit', 'held', 'cancelled') then
    raise exception 'only resubmit, held and cancelled can be asked for, found %', quote_literal(p_verb) using errcode = 'OD002';
  end if;
  select coalesce(array_agg(id), '{}') into v_all from odf.select_chunks(p_selector) id;
  select coalesce(array_agg(chunk_id) filter (where ok), '{}'),
         coalesce((select jsonb_object_agg(status, n) from (select status, count(*) as n from unnest(array_agg(q.status) filter (where not ok)) status group by status) r), '{}'),
         coalesce((select jsonb_object_agg(status, n) from (select status, count(*) as n from unnest(array_agg(q.status)) status group by status) r), '{}')
    into v_ok, v_refused, v_states
    from (select c.chunk_id, odf.shown_status(c.chunk_id, c.status)::text as status, odf.may_request(c, p_verb) as ok
            from chunk_state c where c.chunk_id = any (v_all)) q;
  if not p_dry_run and v_ok <> '{}' then
    insert into chunk_request (chunk_id, verb, reason, requested_by, requested_at)
    select id, p_verb, v_reason, session_user, v_now from unnest(v_ok) id;
    if p_at_once then
      -- One that is being settled right now need not be told.
      update lease set abort = 'term', abort_why = v_reason
       where chunk_id in (select chunk_id from lease where chunk_id = any (v_ok) and abort is null for no key update skip locked);
    end if;
    perform odf.apply_requests(v_ok);
    perform odf.log_event('chunks.' || p_verb, p_selector ->> 'dataset', format('%s chunks: %s', cardinality(v_ok), v_reason), p_selector);
  end if;
  return jsonb_build_object('verb', p_verb, 'matched', cardinality(v_all), 'accepted', cardinality(v_ok), 'states', v_states,
    'refused', v_refused, 'dry_run', p_dry_run,
    'pending', (select count(distinct chunk_id) from chunk_request where chunk_id = any (v_ok)));
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
