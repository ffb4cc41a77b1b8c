-- Plans: written in batches while 'writing', unusable until sealed, never recomputed afterwards.

-- Starts a new plan of a data set; what an interrupted writer left is discarded.
create or replace function odf.begin_plan(p_data_set int) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  d data_set;
  v_left bigint;
  v_plan bigint;
begin
  perform odf.demand_read_committed();
  select * into d from data_set where data_set_id = p_data_set and not retired for update;
  if not found then
    raise exception 'no data set %', p_data_set using errcode = 'OD010';
  end if;
  if d.plan_id is not null then
    raise exception 'data set % has a sealed plan', d.name
      using errcode = 'OD011', hint = 'A sealed plan is never recomputed; another one replaces it: coordinator replan ' || d.name;
  end if;
  -- Locked, so that a batch of the interrupted writer is in before its chunks are deleted, or refused.
  select plan_id into v_left from plan where data_set_id = p_data_set and state = 'writing' for update;
  if found then
    perform odf.discard_plan(v_left);
  end if;
  insert into plan (data_set_id, version, state, partition, started_at)
  select p_data_set, coalesce(max(version), 0) + 1, 'writing', coalesce(d.spec -> 'partition', 'null'), odf.clock()
    from plan where data_set_id = p_data_set
  returning plan_id into v_plan;
  return v_plan;
end $$;

-- Removes an unsealed plan. Its writer, where there is one, is refused at its next batch.
create or replace function odf.discard_plan(p_plan bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_set int;
begin
  -- Locked, so that a batch under way is in before the chunks are deleted, or is refused.
  select data_set_id into v_set from plan where plan_id = p_plan and state = 'writing' for update;
  if found then
    delete from chunk_edge where chunk_id in (select chunk_id from data_chunk where plan_id = p_plan);
    delete from chunk_gap where plan_id = p_plan;
    delete from data_chunk where plan_id = p_plan;
    delete from plan where plan_id = p_plan;
    perform odf.log_event('plan.discarded', (select name from data_set where data_set_id = v_set), 'an unsealed plan was discarded');
  end if;
end $$;

-- Appends a batch, [{key, bounds, est_rows, est_bytes}, ...], after the first p_after chunks of the plan.
create or replace function odf.add_chunks(p_plan bigint, p_after bigint, p_batch jsonb) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_set int;
  v_n bigint;
  v_old bigint;
  v_numbered boolean;
begin
  perform odf.demand_read_committed();
  select data_set_id into v_set from plan where plan_id = p_plan and state = 'writing' for key share;
  if not found then
    raise exception 'plan % is not being written any more', p_plan
      using errcode = 'OD012', hint = 'Another coordinator took the split over, or its flow was applied anew.';
  end if;
  -- Where a plan is in force this one is to replace it: what equals a chunk of that one is kept. A made
  -- data set whose paths are numbered keeps only those whose number stays (see derive_prepared).
  select plan_id, coalesce(spec #>> '{at,path}', '') like '%{ordinal}%' and exists (select from job j where j.data_set_id = v_set and not j.retired)
    into v_old, v_numbered from data_set where data_set_id = v_set;
  insert into data_chunk (plan_id, data_set_id, ordinal, key, bounds, est_rows, est_bytes, kept_id)
  select p_plan, v_set, p_after + b.n, b.item ->> 'key', b.item -> 'bounds',
         (b.item ->> 'est_rows')::bigint, (b.item ->> 'est_bytes')::bigint, o.chunk_id
    from jsonb_array_elements(p_batch) with ordinality as b(item, n)
    left join data_chunk o on o.plan_id = v_old and o.key = b.item ->> 'key' and o.bounds = b.item -> 'bounds'
                          and (not v_numbered or o.ordinal = p_after + b.n)
   order by b.n;
  get diagnostics v_n = row_count;
  return v_n;
exception when unique_violation then
  raise exception 'two chunks of plan % have the same name or number', p_plan
    using errcode = 'OD011', hint = 'Chunk names must be unique in a data set.';
end $$;

-- Seals a plan: from here on its chunks exist. A source's chunks are there already; a made data
-- set's wait for their inputs.
create or replace function odf.seal_plan(p_plan bigint, p_chunks bigint, p_notes text[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  p plan;
  v_found bigint;
  v_last bigint;
  v_digest text;
  v_made boolean;
begin
  perform odf.demand_read_committed();
  -- First the data set, then the plan, as begin_plan and apply_flow.
  perform from data_set where data_set_id = (select data_set_id from plan where plan_id = p_plan) for update;
  select * into p from plan where plan_id = p_plan and state = 'writing' for update;
  if not found then
    raise exception 'plan % is not being written any more', p_plan
      using errcode = 'OD012', hint = 'Another coordinator took the split over, or its flow was applied anew.';
  end if;
  select count(*), max(ordinal), encode(sha256(convert_to(coalesce(string_agg(md5(key || bounds::text), '' order by ordinal), ''), 'UTF8')), 'hex')
    into v_found, v_last, v_digest from data_chunk where plan_id = p_plan;
  if v_found <> p_chunks or coalesce(v_last, 0) <> p_chunks then
    raise exception 'plan % has % chunks up to number %, the splitter wrote %', p_plan, v_found, v_last, p_chunks
      using errcode = 'OD011', hint = 'The plan is not sealed; it is split again from the start.';
  end if;
  update plan set state = 'sealed', sealed_at = v_now, chunks = p_chunks, digest = v_digest, notes = coalesce(p_notes, '{}')
   where plan_id = p_plan;
  update data_set set plan_id = p_plan, plan_error = null where data_set_id = p.data_set_id;
  v_made := exists (select from job where data_set_id = p.data_set_id and not retired);
  insert into chunk_state (chunk_id, data_set_id, status, generation, changed_at)
  select chunk_id, data_set_id, case when v_made then 'waiting' else 'validated' end::chunk_status,
         case when v_made then 0 else 1 end, v_now
    from data_chunk where plan_id = p_plan order by chunk_id;
  if p_chunks >= 1000 then
    -- The protocol's plans must not wait for autovacuum to learn that these tables have grown.
    analyze data_chunk, chunk_state, chunk_edge;
  end if;
  perform odf.fill_gaps(p.data_set_id);
  perform odf.log_event('plan.sealed', (select name from data_set where data_set_id = p.data_set_id), format('%s chunks', p_chunks));
end $$;

-- Plans a made data set from the sealed plans of its inputs. Answers whether it has a plan now.
create or replace function odf.derive_plan(p_data_set int) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  d data_set;
  v_job int;
  v_first bigint;
  v_plan bigint;
  v_n bigint;
  v_missing record;
begin
  perform odf.demand_read_committed();
  select * into d from data_set where data_set_id = p_data_set for update;
  if d.plan_id is not null then
    return true;
  end if;
  select job_id into v_job from job where data_set_id = p_data_set and not retired;
  if not found then
    return false;
  end if;
  -- Locked, so that no new plan of an input takes force between this look at it and the edges to it.
  perform from data_set where data_set_id in (select i.data_set_id from job_input i where i.job_id = v_job) order by data_set_id for share;
  if exists (select from job_input i join data_set x using (data_set_id) where i.job_id = v_job and x.plan_id is null) then
    return false;
  end if;
  if exists (select from job_input i where i.job_id = v_job and i.mapping not in ('same_key', 'all')) then
    -- Its edges are drawn by the coordinator: odf.seal_linked.
    return false;
  end if;
  select x.plan_id into v_first from job_input i join data_set x using (data_set_id)
   where i.job_id = v_job and i.mapping = 'same_key' order by i.position limit 1;
  v_plan := odf.begin_plan(p_data_set);
  if v_first is null then
    insert into data_chunk (plan_id, data_set_id, ordinal, key, bounds) values (v_plan, p_data_set, 1, 'all', '{"kind": "single"}');
  else
    select x.name, c.key into v_missing
      from job_input i join data_set x using (data_set_id)
      cross join lateral (
        (select key from data_chunk where plan_id = v_first except select key from data_chunk where plan_id = x.plan_id)
        union all
        (select key from data_chunk where plan_id = x.plan_id except select key from data_chunk where plan_id = v_first)
        limit 1) c
     where i.job_id = v_job and i.mapping = 'same_key' limit 1;
    if found then
      raise exception 'the inputs of % do not have the same chunks: % and the first input differ in chunk %', d.name, v_missing.name, v_missing.key
        using errcode = 'OD011', hint = 'Inputs taken chunk by chunk need equal keys; take one of them whole with {dataset: ..., chunks: all}.';
    end if;
    insert into data_chunk (plan_id, data_set_id, ordinal, key, bounds, est_rows, est_bytes)
    select v_plan, p_data_set, ordinal, key, bounds, est_rows, est_bytes from data_chunk where plan_id = v_first order by ordinal;
    insert into chunk_edge (input_id, chunk_id)
    select c.chunk_id, o.chunk_id
      from job_input i join data_set x using (data_set_id)
      join data_chunk c on c.plan_id = x.plan_id
      join data_chunk o on o.plan_id = v_plan and o.key = c.key
     where i.job_id = v_job and i.mapping = 'same_key';
  end if;
  select count(*) into v_n from data_chunk where plan_id = v_plan;
  perform odf.seal_plan(v_plan, v_n, array['derived from its inputs']);
  if v_n <= 20000 then
    -- Nobody need lead for a small plan to begin; the rest, and inputs that settle meanwhile, are odf.promote's.
    perform odf.promote_chunks(array(select chunk_id from data_chunk where plan_id = v_plan));
  end if;
  return true;
end $$;

-- Data sets without a plan, sources first: [{data_set_id, flow, name, split, linked, spec, connection}, ...].
-- One whose edges are drawn from its inputs' plans is not among them before these are sealed.
create or replace function odf.unplanned() returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(jsonb_build_object('data_set_id', d.data_set_id, 'flow', f.name, 'name', d.name,
             'split', d.spec -> 'partition' is not null and d.spec -> 'partition' <> 'null'::jsonb,
             'linked', l.linked, 'spec', d.spec, 'connection', v.model -> 'connections' -> (d.spec #>> '{at,connection}'))
             order by coalesce((select l.depth from job j join lane l using (job_id) where j.data_set_id = d.data_set_id and not j.retired), -1), d.data_set_id), '[]')
      from data_set d join flow f using (flow_id)
      join flow_version v on v.flow_id = f.flow_id and v.version = f.current_version
      cross join lateral (
        select exists (select from job j join job_input i using (job_id)
                        where j.data_set_id = d.data_set_id and not j.retired and i.mapping not in ('same_key', 'all')) as linked) l
     where d.plan_id is null and not d.retired and (not l.linked or odf.plan_sides(d.data_set_id) is not null));
end $$;

create or replace function odf.plan_failed(p_data_set int, p_error text) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  update data_set set plan_error = left(p_error, 2000)
   where data_set_id = p_data_set and plan_id is null and plan_error is distinct from left(p_error, 2000);
  if found then
    perform odf.log_event('plan.failed', (select name from data_set where data_set_id = p_data_set), left(p_error, 2000));
  end if;
end $$;
