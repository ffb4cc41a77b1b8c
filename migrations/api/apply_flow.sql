-- Takes a checked flow over: one transaction, idempotent, versioned, refusing what would orphan work.
-- p_flow: {name, document, digest, model, reset_limits, jobs: [{name, output, depth, priority, labels,
-- max_attempts, backoff_ms, max_backoff_ms, silence_s, approve, pools, inputs: [{dataset, mapping}], spec}]}.
create or replace function odf.apply_flow(p_flow jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_flow flow;
  v_model jsonb := p_flow -> 'model';
  v_old flow_version;
  v_problem text;
  v_back int[];
  v_reset boolean := coalesce((p_flow ->> 'reset_limits')::boolean, false);
begin
  perform odf.demand_read_committed();
  perform pg_advisory_xact_lock(hashtext('odf.apply'), hashtext(p_flow ->> 'name'));
  perform odf.hold_rights();
  insert into flow (name) values (p_flow ->> 'name') on conflict (name) do nothing;
  select * into v_flow from flow where name = p_flow ->> 'name' for update;
  select * into v_old from flow_version where flow_id = v_flow.flow_id and version = v_flow.current_version;
  if v_reset then
    update pool set operator_set = false, operator_limit = null where flow_id = v_flow.flow_id and operator_set;
    v_reset := found;
    if v_reset then
      perform odf.log_event('pool.reset', v_flow.name, 'limits are those of the flow file again');
    end if;
  end if;
  if v_old.digest = p_flow ->> 'digest' then
    if v_reset then
      perform odf.allot();
    end if;
    return jsonb_build_object('flow', v_flow.name, 'version', v_flow.current_version, 'changed', v_reset);
  end if;
  v_problem := odf.orphans(v_flow.flow_id, p_flow);
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'OD011',
      hint = 'Nothing was changed. Let the work end (or cancel it) first, or declare the change under a new name.';
  end if;
  insert into flow_version
  values (v_flow.flow_id, v_flow.current_version + 1, odf.clock(), session_user, p_flow ->> 'digest', p_flow ->> 'document', v_model);
  update flow set current_version = current_version + 1 where flow_id = v_flow.flow_id;

  insert into pool as p (flow_id, name, file_limit)
  select v_flow.flow_id, key, (value ->> 'limit')::int from jsonb_each(v_model -> 'pools')
  on conflict (flow_id, name) do update set file_limit = excluded.file_limit, retired = false;
  update pool set retired = true where flow_id = v_flow.flow_id and not v_model -> 'pools' ? name and not retired;

  insert into data_set as d (flow_id, name, spec, buffer_chunks, buffer_bytes)
  select v_flow.flow_id, key, value, (value #>> '{buffer,chunks}')::bigint, (value #>> '{buffer,bytes}')::bigint
    from jsonb_each(v_model -> 'datasets')
  on conflict (flow_id, name) do update
    set spec = excluded.spec, buffer_chunks = excluded.buffer_chunks, buffer_bytes = excluded.buffer_bytes,
        retired = false, plan_error = null;
  update data_set set retired = true where flow_id = v_flow.flow_id and not v_model -> 'datasets' ? name and not retired;
  -- What is being split now was begun under the old declaration: its writer is refused and begins again.
  perform odf.discard_plan(p.plan_id) from plan p join data_set d using (data_set_id)
    where d.flow_id = v_flow.flow_id and p.state = 'writing' and not exists (select from replan_plan x where x.plan_id = p.plan_id);
  perform odf.end_replan(r.replan_id, 'failed', 'the flow was applied anew before the new plan took force',
      'The plan in force stays. Ask again: coordinator replan ' || d.name, true)
    from replan r join data_set d using (data_set_id) where d.flow_id = v_flow.flow_id and r.state in ('asked', 'prepared', 'confirmed');
  update lane n set replan_id = null from job j
   where j.job_id = n.job_id and j.flow_id = v_flow.flow_id and n.replan_id is not null;

  v_back := array(select data_set_id from job where flow_id = v_flow.flow_id and retired and v_model -> 'jobs' ? name);
  -- All of them first, so that two jobs may change places; each that stays comes back below.
  update job set retired = true where flow_id = v_flow.flow_id and not retired;
  perform odf.apply_job(v_flow.flow_id, j) from jsonb_array_elements(p_flow -> 'jobs') j;
  -- Inputs that were published while a job was away have released nothing.
  update plan set released_to = 0 where state = 'sealed' and data_set_id = any (v_back);
  perform odf.log_event('flow.applied', v_flow.name, format('version %s', v_flow.current_version + 1));
  perform odf.allot();
  return jsonb_build_object('flow', v_flow.name, 'version', v_flow.current_version + 1, 'changed', true);
end $$;

create or replace function odf.apply_job(p_flow_id int, p_job jsonb) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_job int;
  v_lane int;
  v_set int := (select data_set_id from data_set where flow_id = p_flow_id and name = p_job ->> 'output');
begin
  insert into job as j (flow_id, name, data_set_id, spec, max_attempts, backoff, max_backoff, silence, needs_approval)
  values (p_flow_id, p_job ->> 'name', v_set, p_job -> 'spec', (p_job ->> 'max_attempts')::int,
          make_interval(secs => (p_job ->> 'backoff_ms')::float8 / 1000), make_interval(secs => (p_job ->> 'max_backoff_ms')::float8 / 1000),
          make_interval(secs => (p_job ->> 'silence_s')::float8), coalesce((p_job ->> 'approve')::boolean, false))
  on conflict (flow_id, name) do update
    set data_set_id = excluded.data_set_id, spec = excluded.spec, max_attempts = excluded.max_attempts,
        backoff = excluded.backoff, max_backoff = excluded.max_backoff, silence = excluded.silence,
        needs_approval = excluded.needs_approval, retired = false,
        version = j.version + (j.spec is distinct from excluded.spec)::int
  returning job_id into v_job;
  delete from job_input where job_id = v_job;
  insert into job_input (job_id, position, data_set_id, mapping)
  select v_job, i.n, d.data_set_id, i.item ->> 'mapping'
    from jsonb_array_elements(p_job -> 'inputs') with ordinality as i(item, n)
    join data_set d on d.flow_id = p_flow_id and d.name = i.item ->> 'dataset';
  insert into lane as l (job_id, priority, depth, labels)
  values (v_job, (p_job ->> 'priority')::int, (p_job ->> 'depth')::int, array(select jsonb_array_elements_text(p_job -> 'labels')))
  on conflict (job_id) do update set priority = excluded.priority, depth = excluded.depth, labels = excluded.labels
  returning lane_id into v_lane;
  delete from lane_pool where lane_id = v_lane;
  insert into lane_pool (lane_id, pool_id)
  select v_lane, pool_id from pool
   where flow_id = p_flow_id and name in (select jsonb_array_elements_text(p_job -> 'pools'));
end $$;

-- What in a new version would leave running or published work without its declaration; NULL if nothing.
-- What was retired counts as well: its plan and its publications are in force again when it comes back.
create or replace function odf.orphans(p_flow_id int, p_flow jsonb) returns text
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_sets jsonb := p_flow #> '{model,datasets}';
  v_jobs jsonb := p_flow #> '{model,jobs}';
  x record;
begin
  for x in
    select j.name, count(*) as n from lease l join job j using (job_id)
     where j.flow_id = p_flow_id and not v_jobs ? j.name group by j.name order by j.name
  loop
    return format('job %s has %s running chunks and is not in the new file', quote_literal(x.name), x.n);
  end loop;
  for x in
    select d.name from data_set d
     where d.flow_id = p_flow_id and d.plan_id is not null and v_sets ? d.name
       and coalesce(v_sets -> d.name -> 'partition', 'null') = 'null' and coalesce(d.spec -> 'partition', 'null') <> 'null'
     order by d.name
  loop
    -- Another partition is taken over: the plan in force stays until 'coordinator replan'. None at all is not.
    return format('data set %s is already cut into chunks and the new file has no partition for it', quote_literal(x.name));
  end loop;
  for x in
    select d.name, exists (select from lease l where l.data_set_id = d.data_set_id) as running,
           exists (select from progress_now p where p.data_set_id = d.data_set_id and p.generations > 0) as published
      from data_set d
     where d.flow_id = p_flow_id and v_sets ? d.name and (v_sets -> d.name -> 'at') is distinct from (d.spec -> 'at')
     order by d.name
  loop
    if x.published or x.running then
      return format('data set %s has %s chunks and the new file puts it elsewhere', quote_literal(x.name),
        case when x.published then 'published' else 'running' end);
    end if;
  end loop;
  -- The chunks of a planned data set hang together with those of the inputs that it was planned from.
  for x in
    select d.name, o.made_from, n.job as maker, n.made_from as made_from_now
      from data_set d
      left join lateral (select odf.mapped_inputs(j.spec -> 'job') as made_from
                           from job j where j.data_set_id = d.data_set_id order by j.retired, j.job_id desc limit 1) o on true
      left join lateral (select e.key as job, odf.mapped_inputs(e.value) as made_from
                           from jsonb_each(v_jobs) e where e.value ->> 'output' = d.name limit 1) n on true
     where d.flow_id = p_flow_id and d.plan_id is not null and v_sets ? d.name and o.made_from is distinct from n.made_from
     order by d.name
  loop
    return case
      when x.maker is null then format('data set %s is planned as the output of a job and no job of the new file makes it', quote_literal(x.name))
      when x.made_from is null then format('data set %s is planned as a source and job %s of the new file makes it', quote_literal(x.name), quote_literal(x.maker))
      else format('data set %s is planned and job %s of the new file makes it from other inputs', quote_literal(x.name), quote_literal(x.maker)) end;
  end loop;
  return null;
end $$;

-- The inputs of a declared job, in an order of their own: theirs does not matter to a plan.
create or replace function odf.mapped_inputs(p_job jsonb) returns jsonb
language plpgsql immutable set search_path = odf, pg_temp as $$
begin
  return (select coalesce(jsonb_agg(i order by i ->> 'dataset', i ->> 'mapping'), '[]') from jsonb_array_elements(p_job -> 'inputs') i);
end $$;
