-- The new plans of a replan, written beside those in force: the leader's part. Nothing of them is
-- seen before they take force, and whatever interrupts this leaves the old plans as they are.

-- Open replans for the leader, [{replan_id, dataset, state, consent}, ...], after tidying up behind those
-- that ended without taking force.
create or replace function odf.open_replans(p_term bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_left bigint;
begin
  perform odf.prove_term(p_term);
  -- Consent that never came: the source has moved on.
  perform odf.end_replan(replan_id, 'withdrawn', 'nobody consented within an hour', null, false)
    from replan where state = 'prepared' and not consent and changed_at < odf.clock() - interval '1 hour';
  if exists (select from lane n join replan r using (replan_id) where r.state in ('done', 'failed', 'withdrawn')) then
    perform odf.hold_rights();
    update lane n set replan_id = null from replan r where r.replan_id = n.replan_id and r.state in ('done', 'failed', 'withdrawn');
    perform odf.allot();
    -- What takes longer is not for a transaction that holds everybody's rights: the next pass.
    return odf.list_open_replans();
  end if;
  -- One a pass: a plan may have a million chunks.
  select p.plan_id into v_left
    from replan r join replan_plan x using (replan_id) join plan p using (plan_id)
   where r.state in ('failed', 'withdrawn') and p.state in ('writing', 'sealed')
     and not exists (select from data_set d where d.plan_id = p.plan_id) limit 1;
  perform odf.discard_prepared(v_left) where v_left is not null;
  return odf.list_open_replans();
end $$;

create or replace function odf.list_open_replans() returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (select coalesce(jsonb_agg(jsonb_build_object('replan_id', r.replan_id, 'dataset', d.name, 'state', r.state,
                   'consent', r.consent) order by r.replan_id), '[]')
            from replan r join data_set d using (data_set_id) where r.state in ('asked', 'prepared', 'confirmed'));
end $$;

-- Deletes a plan that never took force, with its edges.
create or replace function odf.discard_prepared(p_plan bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  -- Locked, so that a batch under way is in before the chunks are deleted, or is refused.
  perform from plan p where p.plan_id = p_plan and p.state in ('writing', 'sealed')
     and not exists (select from data_set d where d.plan_id = p_plan) for update;
  if found then
    delete from chunk_edge where chunk_id in (select chunk_id from data_chunk where plan_id = p_plan);
    delete from data_chunk where plan_id = p_plan;
    delete from plan where plan_id = p_plan;
  end if;
end $$;

-- Begins to write the new plans of a replan, anew where an interrupted writer left some. Answers what
-- to split: [{plan_id, data_set_id, name, spec, connection}, ...].
create or replace function odf.begin_replan(p_term bigint, p_replan bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  r replan;
begin
  perform odf.prove_term(p_term);
  perform odf.hold_flow((select data_set_id from replan where replan_id = p_replan));
  select * into r from replan where replan_id = p_replan for update;
  if r.state is distinct from 'asked' then
    raise exception 'replan % is not to be prepared any more', p_replan using errcode = 'OD012', hint = 'It ended meanwhile.';
  end if;
  perform odf.discard_prepared(plan_id) from replan_plan where replan_id = p_replan;
  delete from replan_plan where replan_id = p_replan;
  -- What an earlier replan of theirs left and nobody has tidied yet.
  perform odf.discard_prepared(p.plan_id) from odf.replan_members(r.data_set_id) m join plan p using (data_set_id)
    where m.part <> 'reader' and p.state = 'writing';
  with new_plan as (
    insert into plan (data_set_id, version, state, partition, started_at)
    select m.data_set_id, (select max(version) + 1 from plan p where p.data_set_id = m.data_set_id), 'writing',
           coalesce(d.spec -> 'partition', 'null'), v_now
      from odf.replan_members(r.data_set_id) m join data_set d using (data_set_id)
     where m.part in ('split', 'derived') order by m.data_set_id
    returning plan_id, data_set_id
  )
  insert into replan_plan (replan_id, data_set_id, plan_id, old_plan_id)
  select p_replan, n.data_set_id, n.plan_id, d.plan_id from new_plan n join data_set d using (data_set_id);
  return (
    select coalesce(jsonb_agg(jsonb_build_object('plan_id', x.plan_id, 'data_set_id', d.data_set_id, 'name', d.name, 'spec', d.spec,
             'connection', v.model -> 'connections' -> (d.spec #>> '{at,connection}')) order by d.data_set_id), '[]')
      from odf.replan_members(r.data_set_id) m join data_set d using (data_set_id)
      join replan_plan x on x.replan_id = p_replan and x.data_set_id = m.data_set_id
      join flow f using (flow_id) join flow_version v on v.flow_id = f.flow_id and v.version = f.current_version
     where m.part = 'split');
end $$;

-- All is split: checks and seals it, derives what follows from it, and counts what would become of
-- the chunks. p_split: [{plan_id, chunks, notes}, ...]. Answers the preview.
create or replace function odf.prepare_replan(p_term bigint, p_replan bigint, p_split jsonb) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  m record;
  s record;
  r replan;
begin
  perform odf.prove_term(p_term);
  perform odf.hold_flow((select data_set_id from replan where replan_id = p_replan));
  select * into r from replan where replan_id = p_replan for update;
  if r.state is distinct from 'asked' or not odf.replan_fits(p_replan, r.data_set_id) then
    raise exception 'replan % is not being prepared any more', p_replan
      using errcode = 'OD012', hint = 'Another coordinator took it over, or its flow was applied anew.';
  end if;
  for s in select * from jsonb_to_recordset(p_split) as q(plan_id bigint, chunks bigint, notes text[]) loop
    perform odf.seal_prepared(s.plan_id, s.chunks, s.notes);
  end loop;
  analyze data_chunk;
  for m in select x.data_set_id, p.plan_id, p.old_plan_id from odf.replan_members(r.data_set_id) x join replan_plan p using (data_set_id)
            where p.replan_id = p_replan and x.part = 'derived' order by x.depth, x.data_set_id loop
    perform odf.derive_prepared(p_replan, m.data_set_id, m.plan_id, m.old_plan_id);
  end loop;
  update replan set state = 'prepared', preview = odf.replan_preview(p_replan), changed_at = odf.clock()
   where replan_id = p_replan returning * into r;
  return r.preview;
end $$;

-- Whether what a replan prepares is still all that hangs together, each over the plan that is in force.
create or replace function odf.replan_fits(p_replan bigint, p_data_set int) returns boolean
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return not exists (
    select from (select data_set_id, plan_id from odf.replan_members(p_data_set) where part in ('split', 'derived')) m
      full join (select data_set_id, old_plan_id from replan_plan join plan using (plan_id, data_set_id) where replan_id = p_replan) x using (data_set_id)
     where m.plan_id is distinct from x.old_plan_id);
end $$;

-- Seals a prepared plan: its chunks are counted and hashed as a first plan's are.
create or replace function odf.seal_prepared(p_plan bigint, p_chunks bigint, p_notes text[]) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_found bigint;
  v_last bigint;
  v_digest text;
begin
  perform from plan where plan_id = p_plan and state = 'writing' for update;
  if not found then
    raise exception 'plan % is not being written any more', p_plan
      using errcode = 'OD012', hint = 'Another coordinator took the split over, or its flow was applied anew.';
  end if;
  select count(*), max(ordinal), encode(sha256(convert_to(coalesce(string_agg(md5(key || bounds::text), '' order by ordinal), ''), 'UTF8')), 'hex')
    into v_found, v_last, v_digest from data_chunk where plan_id = p_plan;
  if v_found <> p_chunks or coalesce(v_last, 0) <> p_chunks then
    raise exception 'plan % has % chunks up to number %, the splitter wrote %', p_plan, v_found, v_last, p_chunks
      using errcode = 'OD011', hint = 'The plan is not sealed; the plan in force stays.';
  end if;
  update plan set state = 'sealed', sealed_at = odf.clock(), chunks = p_chunks, digest = v_digest, notes = coalesce(p_notes, '{}')
   where plan_id = p_plan;
end $$;

-- A made data set's new plan: the keys of its inputs' new plans. A chunk is kept where it equals one
-- of the plan in force and each of its inputs is kept; where paths are numbered, its number must be the
-- same as well, because another chunk may have published under it.
create or replace function odf.derive_prepared(p_replan bigint, p_data_set int, p_plan bigint, p_old bigint) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_first bigint;
  v_n bigint;
  v_numbered boolean;
  v_missing record;
  d data_set;
begin
  select * into d from data_set where data_set_id = p_data_set;
  v_numbered := coalesce(d.spec #>> '{at,path}', '') like '%{ordinal}%';
  select coalesce(x.plan_id, s.plan_id) into v_first
    from job j join job_input i using (job_id) join data_set s on s.data_set_id = i.data_set_id
    left join replan_plan x on x.replan_id = p_replan and x.data_set_id = i.data_set_id
   where j.data_set_id = p_data_set and not j.retired and i.mapping = 'same_key' order by i.position limit 1;
  select q.name, c.key into v_missing
    from (select s.name, coalesce(x.plan_id, s.plan_id) as plan_id
            from job j join job_input i using (job_id) join data_set s on s.data_set_id = i.data_set_id
            left join replan_plan x on x.replan_id = p_replan and x.data_set_id = i.data_set_id
           where j.data_set_id = p_data_set and not j.retired and i.mapping = 'same_key') q
    cross join lateral (
      (select key from data_chunk where plan_id = v_first except select key from data_chunk where plan_id = q.plan_id)
      union all
      (select key from data_chunk where plan_id = q.plan_id except select key from data_chunk where plan_id = v_first) limit 1) c
   where q.plan_id <> v_first limit 1;
  if found then
    raise exception 'the inputs of % would not have the same chunks: % and the first input differ in chunk %', d.name, v_missing.name, v_missing.key
      using errcode = 'OD011', hint = 'Inputs taken chunk by chunk need equal keys; the plans in force stay.';
  end if;
  -- The chunks of the inputs as they will be: a kept one under the id that it keeps.
  with input as materialized (
    select c.key, coalesce(c.kept_id, c.chunk_id) as id, c.kept_id is not null or s.plan_id = c.plan_id as kept
      from job j join job_input i using (job_id) join data_set s on s.data_set_id = i.data_set_id
      left join replan_plan x on x.replan_id = p_replan and x.data_set_id = i.data_set_id
      join data_chunk c on c.plan_id = coalesce(x.plan_id, s.plan_id)
     where j.data_set_id = p_data_set and not j.retired and i.mapping = 'same_key'
  ), whole as (
    select key, bool_and(kept) as kept from input group by key
  ), made as (
    insert into data_chunk (plan_id, data_set_id, ordinal, key, bounds, est_rows, est_bytes, kept_id)
    select p_plan, p_data_set, f.ordinal, f.key, f.bounds, f.est_rows, f.est_bytes, case when w.kept then o.chunk_id end
      from data_chunk f join whole w using (key)
      left join data_chunk o on o.plan_id = p_old and o.key = f.key and o.bounds = f.bounds and (o.ordinal = f.ordinal or not v_numbered)
     where f.plan_id = v_first order by f.ordinal
    returning chunk_id, key, kept_id
  ), edges as (
    insert into chunk_edge (input_id, chunk_id) select i.id, n.chunk_id from made n join input i using (key) where n.kept_id is null
  )
  select count(*) into v_n from made;
  if v_n >= 1000 then
    analyze data_chunk, chunk_edge;
  end if;
  perform odf.seal_prepared(p_plan, v_n, array['derived from its inputs']);
end $$;

-- What would become of the chunks, inputs first: [{dataset, made, old, new, kept, fresh, retired,
-- published, rows, bytes}, ...]; the last three are of published data that falls out of use.
create or replace function odf.replan_preview(p_replan bigint) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(to_jsonb(q) - 'depth' order by q.depth, q.dataset), '[]')
      from (select d.name as dataset, j.job_id is not null as made, coalesce(n.depth, -1) as depth, o.chunks as old, p.chunks as new,
                   k.kept, p.chunks - k.kept as fresh, o.chunks - k.kept as retired, g.published, g.rows, g.bytes
              from replan_plan x join data_set d using (data_set_id)
              join plan p on p.plan_id = x.plan_id join plan o on o.plan_id = x.old_plan_id
              left join job j on j.data_set_id = d.data_set_id and not j.retired left join lane n using (job_id)
              cross join lateral (select count(kept_id) as kept from data_chunk c where c.plan_id = x.plan_id) k
              cross join lateral (
                select count(*) filter (where s.generation > 0 and not s.removed) as published,
                       coalesce(sum(s.rows_out) filter (where not s.removed), 0)::bigint as rows,
                       coalesce(sum(s.bytes_out) filter (where not s.removed), 0)::bigint as bytes
                  from data_chunk c join chunk_state s using (chunk_id)
                 where c.plan_id = x.old_plan_id and j.job_id is not null
                   and not exists (select from data_chunk w where w.plan_id = x.plan_id and w.kept_id = c.chunk_id)) g
             where x.replan_id = p_replan) q);
end $$;

-- The replan cannot be prepared, or may not take force.
create or replace function odf.fail_replan(p_term bigint, p_replan bigint, p_error text, p_hint text, p_refused boolean) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  perform odf.prove_term(p_term);
  perform odf.end_replan(p_replan, 'failed', p_error, p_hint, p_refused);
end $$;
