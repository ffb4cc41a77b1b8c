-- Planning a data set again: asking, consent, withdrawal, and where it stands. The leader prepares the
-- new plans beside those in force (prepare_plans.sql) and lets them take force (switch_plans.sql).

-- Everything that is planned anew with a data set: all that hangs together with it chunk by chunk,
-- upwards and downwards, because inputs of the same key must have equal keys. Readers take one of these
-- whole, by time or by an expression: their plans stay, but none may run while what it reads changes.
create or replace function odf.replan_members(p_data_set int)
returns table (data_set_id int, plan_id bigint, part text, depth int)
language plpgsql stable security definer set search_path = odf, pg_temp as $$
#variable_conflict use_column
begin
  return query
    with recursive linked as (
      select j.data_set_id as made, i.data_set_id as input
        from job_input i join job j using (job_id) where i.mapping = 'same_key' and not j.retired
    ), component as (
      select p_data_set as id
      union
      select case when l.made = c.id then l.input else l.made end
        from component c join linked l on c.id in (l.made, l.input)
    ), planned as (
      select d.data_set_id, d.plan_id, coalesce(n.depth, -1) as depth,
             case when d.spec -> 'partition' is not null and d.spec -> 'partition' <> 'null' then 'split'
                  when exists (select from linked l where l.made = d.data_set_id) then 'derived' else 'stays' end as part
        from component c join data_set d on d.data_set_id = c.id
        left join job j on j.data_set_id = d.data_set_id and not j.retired
        left join lane n using (job_id)
       where d.plan_id is not null and not d.retired
    )
    select p.data_set_id, p.plan_id, p.part, p.depth from planned p
    union all
    select distinct d.data_set_id, d.plan_id, 'reader', 2147483647
      from job_input i join job j using (job_id) join data_set d on d.data_set_id = j.data_set_id
     where i.mapping <> 'same_key' and not j.retired and not d.retired
       and i.data_set_id in (select p.data_set_id from planned p)
       and d.data_set_id not in (select p.data_set_id from planned p);
end $$;

-- One replan or application of a flow at a time. Taken before any row is locked and before anybody's
-- rights are held, so that whoever waits for a long preparation or switch holds up nobody else.
create or replace function odf.hold_flow(p_data_set int) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform pg_advisory_xact_lock(hashtext('odf.apply'), hashtext((
    select f.name from data_set d join flow f using (flow_id) where d.data_set_id = p_data_set)));
end $$;

-- Attempts that run in any of these data sets.
create or replace function odf.running_in(p_data_sets int[]) returns bigint
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (select count(*) from lease where data_set_id = any (p_data_sets));
end $$;

create or replace function odf.refuse_running(p_name text, p_running bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  raise exception '% of % or of what is made from it % running',
      p_running || case p_running when 1 then ' chunk' else ' chunks' end, p_name, case p_running when 1 then 'is' else 'are' end
    using errcode = 'OD011', hint = 'Nothing was changed. Say --drain to start nothing new and wait for them, or pause it and wait.';
end $$;

-- Asks for a data set, by name or flow:name, to be cut again as the flow's current version says. One
-- that was confirmed already is joined; one that still waits for somebody's consent is begun anew,
-- because its source has moved on. Answers as odf.replan_now.
create or replace function odf.ask_replan(p_name text, p_reason text, p_consent boolean, p_drain boolean) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_ids int[];
  v_sets int[];
  v_running bigint;
  d data_set;
  r replan;
begin
  perform odf.demand_read_committed();
  select array_agg(x.data_set_id) into v_ids from data_set x join flow f using (flow_id)
   where not x.retired and p_name in (x.name, f.name || ':' || x.name);
  if v_ids is null then
    raise exception 'no data set named %', quote_literal(p_name) using errcode = 'OD010',
      hint = coalesce('Data sets: ' || (select string_agg(name, ', ' order by name) from data_set where not retired), 'No flow is applied yet.');
  elsif cardinality(v_ids) > 1 then
    raise exception 'several flows have a data set named %', quote_literal(p_name) using errcode = 'OD002', hint = 'Name it flow:dataset.';
  end if;
  perform odf.hold_flow(v_ids[1]);
  select * into d from data_set where data_set_id = v_ids[1];
  if d.plan_id is null then
    raise exception 'data set % has no plan yet', quote_literal(d.name) using errcode = 'OD011',
      hint = 'It is cut as declared as soon as a coordinator leads: coordinator status';
  end if;
  if coalesce(d.spec -> 'partition', 'null') = 'null' then
    raise exception 'data set % has no partition of its own: its chunks follow from its inputs', quote_literal(d.name)
      using errcode = 'OD011',
      hint = coalesce('It is planned again with: ' || (select string_agg(x.name, ', ' order by x.name)
               from odf.replan_members(d.data_set_id) m join data_set x using (data_set_id) where m.part = 'split'), 'There is nothing to cut.');
  end if;
  if exists (select from odf.replan_members(d.data_set_id) m join job j on j.data_set_id = m.data_set_id and not j.retired
               join job_input i using (job_id) where m.part in ('split', 'derived') and i.mapping not in ('same_key', 'all')) then
    raise exception 'chunks of data set % are found by time or by an expression, so it cannot be planned again by itself', quote_literal(d.name)
      using errcode = 'OD011', hint = 'Plan its inputs again: what its chunks lack is found there by name. For other chunks declare a new data set.';
  end if;
  v_sets := array(select data_set_id from odf.replan_members(d.data_set_id));
  select x.* into r from replan x
   where x.state in ('asked', 'prepared', 'confirmed') and x.data_set_id = any (v_sets) order by replan_id desc limit 1;
  if found and r.consent then
    return odf.replan_now(r.replan_id) || '{"joined": true}';
  elsif found then
    perform odf.end_replan(r.replan_id, 'withdrawn', null, null, false);
  end if;
  v_running := odf.running_in(v_sets);
  if p_consent and not p_drain and v_running > 0 then
    perform odf.refuse_running(d.name, v_running);
  end if;
  insert into replan (data_set_id, consent, drain, reason, requested_by, requested_at, changed_at)
  values (d.data_set_id, p_consent, p_drain, nullif(p_reason, ''), session_user, v_now, v_now) returning * into r;
  perform odf.log_event('replan.asked', d.name, coalesce(r.reason, ''), jsonb_build_object('replan_id', r.replan_id));
  return odf.replan_now(r.replan_id);
end $$;

-- Consent to what was prepared: from here on nothing of it is claimed, and the leader lets the new
-- plans take force when nothing runs any more. Refused while something runs, unless it may drain.
create or replace function odf.confirm_replan(p_replan bigint, p_drain boolean) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_sets int[];
  v_running bigint;
  v_name text;
  r replan;
begin
  perform odf.demand_read_committed();
  perform odf.hold_flow((select data_set_id from replan where replan_id = p_replan));
  -- Every claim holds its session's row: those before this are counted, those after it see the lanes stopped.
  perform odf.hold_rights();
  select * into r from replan where replan_id = p_replan for update;
  if r.state is distinct from 'prepared' then
    if r.state in ('confirmed', 'done') then
      return odf.replan_now(p_replan);
    end if;
    raise exception 'replan % is % and cannot take force', p_replan, coalesce(r.state, 'not there') using errcode = 'OD011',
      hint = coalesce(r.error, 'Ask for it again.');
  end if;
  select name into v_name from data_set where data_set_id = r.data_set_id;
  v_sets := array(select data_set_id from odf.replan_members(r.data_set_id));
  v_running := odf.running_in(v_sets);
  if v_running > 0 and not (p_drain or r.drain) then
    perform odf.refuse_running(v_name, v_running);
  end if;
  update replan set state = 'confirmed', consent = true, drain = drain or p_drain, changed_at = odf.clock() where replan_id = p_replan;
  update lane n set replan_id = p_replan from job j where j.job_id = n.job_id and j.data_set_id = any (v_sets);
  perform odf.log_event('replan.confirmed', v_name, format('claims are stopped; %s chunks running', v_running),
    jsonb_build_object('replan_id', p_replan));
  perform odf.allot();
  return odf.replan_now(p_replan);
end $$;

-- Gives up a replan that has not taken force; the plans in force stay as they are.
create or replace function odf.withdraw_replan(p_replan bigint, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_state text;
begin
  perform odf.demand_read_committed();
  perform odf.hold_flow((select data_set_id from replan where replan_id = p_replan));
  perform odf.hold_rights();
  select state into v_state from replan where replan_id = p_replan for update;
  if v_state is null then
    raise exception 'no replan %', p_replan using errcode = 'OD010';
  end if;
  if v_state in ('asked', 'prepared', 'confirmed') then
    perform odf.end_replan(p_replan, 'withdrawn', p_reason, null, false);
    update lane set replan_id = null where replan_id = p_replan;
    perform odf.allot();
  end if;
  return odf.replan_now(p_replan);
end $$;

-- The end of a replan that did not take force. Its plans are discarded by the leader's next pass, and
-- its lanes opened there, where this is not done at once: neither may happen under everybody's rights.
create or replace function odf.end_replan(p_replan bigint, p_state text, p_error text, p_hint text, p_refused boolean) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  update replan set state = p_state, error = left(p_error, 2000), hint = p_hint, refused = p_refused, changed_at = odf.clock()
   where replan_id = p_replan and state in ('asked', 'prepared', 'confirmed');
  if found then
    perform odf.log_event('replan.' || p_state, (select d.name from replan r join data_set d using (data_set_id) where r.replan_id = p_replan),
      coalesce(left(p_error, 2000), ''), jsonb_build_object('replan_id', p_replan));
  end if;
end $$;

-- Where a replan stands: {replan_id, dataset, state, consent, drain, preview, error, hint, refused,
-- running, written (chunks split so far), leader}.
create or replace function odf.replan_now(p_replan bigint) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (
    select jsonb_build_object('replan_id', r.replan_id, 'flow', f.name, 'dataset', d.name, 'state', r.state, 'consent', r.consent,
             'drain', r.drain, 'preview', coalesce(r.preview, '[]'), 'error', r.error, 'hint', r.hint, 'refused', r.refused,
             'running', case when r.state in ('asked', 'prepared', 'confirmed')
                        then odf.running_in(array(select data_set_id from odf.replan_members(r.data_set_id))) else 0 end,
             'written', coalesce((select sum((select max(c.ordinal) from data_chunk c where c.plan_id = x.plan_id))
                                    from replan_plan x where x.replan_id = r.replan_id), 0)::bigint,
             'leader', (select expires > clock_timestamp() from leader))
      from replan r join data_set d using (data_set_id) join flow f using (flow_id) where r.replan_id = p_replan);
end $$;
