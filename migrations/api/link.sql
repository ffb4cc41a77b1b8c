-- Plans of data sets whose inputs are found by time or by an expression. Which chunk feeds which is
-- decided by the coordinator (common/src/flow/link); here it is stored, sealed and, where an input's
-- plan lacked something, completed by a later one.

-- The inputs of a made data set that are taken chunk by chunk, in order, with their plans: [{data_set_id,
-- name, mapping, plan_id, chunks}, ...]; NULL while an input has no plan.
create or replace function odf.plan_sides(p_data_set int) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
declare
  v_job job;
begin
  select * into v_job from job where data_set_id = p_data_set and not retired;
  if not found or exists (select from job_input i join data_set x using (data_set_id) where i.job_id = v_job.job_id and x.plan_id is null) then
    return null;
  end if;
  return (
    select coalesce(jsonb_agg(jsonb_build_object('data_set_id', x.data_set_id, 'name', x.name, 'plan_id', x.plan_id,
             'chunks', p.chunks, 'mapping', v_job.spec #> array['job', 'inputs', (i.position - 1)::text, 'mapping']) order by i.position), '[]')
      from job_input i join data_set x using (data_set_id) join plan p using (plan_id)
     where i.job_id = v_job.job_id and i.mapping <> 'all');
end $$;

-- Draws edges into chunks of a plan that is being written, by their numbers.
create or replace function odf.add_edges(p_plan bigint, p_mapping text, p_ordinals bigint[], p_inputs bigint[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.demand_read_committed();
  perform odf.writing(p_plan);
  insert into chunk_edge (input_id, chunk_id, mapping)
  select u.input, c.chunk_id, p_mapping
    from unnest(p_ordinals, p_inputs) as u(ordinal, input)
    join data_chunk c on c.plan_id = p_plan and c.ordinal = u.ordinal
  on conflict do nothing;
end $$;

-- Records inputs that the plan of p_data_set does not have.
create or replace function odf.add_gaps(
  p_plan bigint, p_data_set int, p_mapping text, p_ordinals bigint[], p_wanted text[], p_is_key boolean[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.demand_read_committed();
  perform odf.writing(p_plan);
  insert into chunk_gap (chunk_id, plan_id, data_set_id, mapping, wanted, is_key)
  select c.chunk_id, p_plan, p_data_set, p_mapping, u.wanted, u.is_key
    from unnest(p_ordinals, p_wanted, p_is_key) as u(ordinal, wanted, is_key)
    join data_chunk c on c.plan_id = p_plan and c.ordinal = u.ordinal
  on conflict do nothing;
end $$;

-- Refuses a writer whose plan was taken over or discarded.
create or replace function odf.writing(p_plan bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform from plan where plan_id = p_plan and state = 'writing' for key share;
  if not found then
    raise exception 'plan % is not being written any more', p_plan
      using errcode = 'OD012', hint = 'Another coordinator took the split over, or its flow was applied anew.';
  end if;
end $$;

-- Seals a plan whose edges were drawn from these plans of its inputs, if those are still in force.
create or replace function odf.seal_linked(p_plan bigint, p_chunks bigint, p_notes text[], p_input_plans bigint[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_set int := (select data_set_id from plan where plan_id = p_plan);
begin
  perform odf.demand_read_committed();
  perform from data_set where data_set_id = v_set for update;
  perform from data_set where plan_id = any (p_input_plans) order by data_set_id for share;
  if exists (select from job j join job_input i using (job_id) join data_set x on x.data_set_id = i.data_set_id
              where j.data_set_id = v_set and not j.retired and i.mapping <> 'all' and x.plan_id <> all (p_input_plans)) then
    raise exception 'an input of plan % was planned anew meanwhile', p_plan
      using errcode = 'OD012', hint = 'It is begun again from the new plan.';
  end if;
  perform odf.seal_plan(p_plan, p_chunks, p_notes);
  if p_chunks <= 20000 then
    -- As derive_plan: the rest, and inputs that settle meanwhile, are odf.promote's.
    perform odf.promote_chunks(array(select chunk_id from data_chunk where plan_id = p_plan));
  end if;
end $$;

-- After a plan of p_data_set was sealed: what waited for chunks of these names waits for them by an edge
-- from now on. Answers how many gaps were closed.
create or replace function odf.fill_gaps(p_data_set int) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_chunks bigint[];
  v_inputs bigint[];
  v_mappings text[];
begin
  if not exists (select from chunk_gap where data_set_id = p_data_set and is_key) then
    return 0;
  end if;
  with filled as (
    delete from chunk_gap g using data_set d, data_chunk c
     where g.data_set_id = p_data_set and g.is_key and d.data_set_id = g.data_set_id
       and c.plan_id = d.plan_id and c.key = g.wanted
    returning g.chunk_id, c.chunk_id as input_id, g.mapping
  )
  select array_agg(chunk_id), array_agg(input_id), array_agg(mapping) into v_chunks, v_inputs, v_mappings from filled;
  if v_chunks is null then
    return 0;
  end if;
  insert into chunk_edge (input_id, chunk_id, mapping)
  select * from unnest(v_inputs, v_chunks, v_mappings) on conflict do nothing;
  -- An input that settles now either is seen below or sees these edges.
  perform from chunk_state where chunk_id = any (v_inputs) order by chunk_id for share;
  perform odf.promote_chunks(v_chunks);
  return cardinality(v_chunks);
end $$;
