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
begin
  perform pg_advisory_xact_lock(hashtext('odf.apply'), hashtext(p_flow ->> 'name'));
  perform odf.hold_rights();
  insert into flow (name) values (p_flow ->> 'name') on conflict (name) do nothing;
  select * into v_flow from flow where name = p_flow ->> 'name' for update;
  select * into v_old from flow_version where flow_id = v_flow.flow_id and version = v_flow.current_version;
  if v_old.digest = p_flow ->> 'digest' and not coalesce((p_flow ->> 'reset_limits')::boolean, false) then
    return jsonb_build_object('flow', v_flow.name, 'version', v_flow.current_version, 'changed', false);
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
  if coalesce((p_flow ->> 'reset_limits')::boolean, false) then
    update pool set operator_set = false, operator_limit = null where flow_id = v_flow.flow_id and operator_set;
  end if;

  insert into data_set as d (flow_id, name, spec, buffer_chunks, buffer_bytes)
  select v_flow.flow_id, key, value, (value #>> '{buffer,chunks}')::bigint, (value #>> '{buffer,bytes}')::bigint
    from jsonb_each(v_model -> 'datasets')
  on conflict (flow_id, name) do update
    set spec = excluded.spec, buffer_chunks = excluded.buffer_chunks, buffer_bytes = excluded.buffer_bytes,
        retired = false, plan_error = null;
  update data_set set retired = true where flow_id = v_flow.flow_id and not v_model -> 'datasets' ? name and not retired;

  update job set retired = true where flow_id = v_flow.flow_id and not v_model -> 'jobs' ? name and not retired;
  perform odf.apply_job(v_flow.flow_id, j) from jsonb_array_elements(p_flow -> 'jobs') j;
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
create or replace function odf.orphans(p_flow_id int, p_flow jsonb) returns text
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_sets jsonb := p_flow #> '{model,datasets}';
  v_jobs jsonb := p_flow #> '{model,jobs}';
  x record;
begin
  for x in
    select j.name, count(*) as n from lease l join job j using (job_id)
     where j.flow_id = p_flow_id and not v_jobs ? j.name group by j.name
  loop
    return format('job %s has %s running chunks and is not in the new file', quote_ident(x.name), x.n);
  end loop;
  for x in
    select d.name from data_set d
     where d.flow_id = p_flow_id and not d.retired and d.plan_id is not null and v_sets ? d.name
       and (v_sets -> d.name -> 'partition') is distinct from (d.spec -> 'partition')
  loop
    return format('data set %s is already cut into chunks and the new file cuts it differently', quote_ident(x.name));
  end loop;
  for x in
    select d.name from data_set d
     where d.flow_id = p_flow_id and not d.retired and v_sets ? d.name
       and (v_sets -> d.name -> 'at') is distinct from (d.spec -> 'at')
       and exists (select from progress_now p where p.data_set_id = d.data_set_id and p.generations > 0)
  loop
    return format('data set %s has published chunks and the new file puts it elsewhere', quote_ident(x.name));
  end loop;
  for x in
    select j.name from job j join data_set d using (data_set_id)
     where j.flow_id = p_flow_id and not j.retired and v_jobs ? j.name and d.plan_id is not null
       and ((v_jobs -> j.name ->> 'output') <> d.name
            or (v_jobs -> j.name -> 'inputs') is distinct from (j.spec #> '{job,inputs}'))
  loop
    return format('job %s is planned and the new file changes what it reads or makes', quote_ident(x.name));
  end loop;
  return null;
end $$;
