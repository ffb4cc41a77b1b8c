-- Lets the prepared plans of a replan take force, all in one transaction: before it the old plans are
-- whole, after it the new ones. Their lanes are stopped and nothing of them runs; the rights of the
-- fleet are not held, so that everything else goes on however many chunks there are.

-- Answers {state, running}: confirmed while something still runs, asked where what was prepared does
-- not fit any more and is prepared anew.
create or replace function odf.switch_plans(p_term bigint, p_replan bigint) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_sets int[];
  v_running bigint;
  v_moved bigint;
  v_new bigint[];
  v_old bigint[];
  v_name text;
  r replan;
begin
  perform odf.prove_term(p_term);
  perform odf.hold_flow((select data_set_id from replan where replan_id = p_replan));
  select * into r from replan where replan_id = p_replan for update;
  if r.state is distinct from 'confirmed' then
    return jsonb_build_object('state', coalesce(r.state, 'withdrawn'), 'running', 0);
  end if;
  v_sets := array(select data_set_id from odf.replan_members(r.data_set_id));
  v_running := odf.running_in(v_sets);
  if v_running > 0 then
    return jsonb_build_object('state', 'confirmed', 'running', v_running);
  end if;
  select name into v_name from data_set where data_set_id = r.data_set_id;
  perform from data_set where data_set_id = any (v_sets) order by data_set_id for update;
  if not odf.replan_fits(p_replan, r.data_set_id) then
    update replan set state = 'asked', preview = null, changed_at = v_now where replan_id = p_replan;
    return jsonb_build_object('state', 'asked', 'running', 0);
  end if;
  v_new := array(select plan_id from replan_plan where replan_id = p_replan);
  v_old := array(select old_plan_id from replan_plan where replan_id = p_replan);

  -- Kept chunks move over, each into the place that was held for it. A place is free of its holder
  -- before the chunk arrives, because each row updated here comes out of the deletion.
  with place as (
    delete from data_chunk where plan_id = any (v_new) and kept_id is not null
    returning plan_id, ordinal, kept_id, est_rows, est_bytes
  )
  update data_chunk c set plan_id = p.plan_id, ordinal = p.ordinal, est_rows = p.est_rows, est_bytes = p.est_bytes
    from place p where c.chunk_id = p.kept_id and c.plan_id = any (v_old);
  get diagnostics v_moved = row_count;
  perform odf.retire_chunks(p_replan, v_old, v_now);
  perform odf.unlink_retired(v_old, v_now);
  perform odf.begin_chunks(v_new, v_now);

  update plan set state = 'retired' where plan_id = any (v_old);
  update data_set d set plan_id = x.plan_id, plan_error = null
    from replan_plan x where x.replan_id = p_replan and x.data_set_id = d.data_set_id;
  perform odf.fill_gaps(id) from unnest(v_sets) id;
  -- How far staleness was walked is told by numbers of the old plans.
  delete from whole_look w using job j where j.job_id = w.job_id and j.data_set_id = any (v_sets);
  update replan set state = 'done', changed_at = v_now where replan_id = p_replan;
  perform odf.log_event('replan.done', v_name, format('%s chunks in force, %s kept%s',
    (select chunks from plan p join data_set d using (plan_id) where d.data_set_id = r.data_set_id),
    (select sum((p ->> 'kept')::bigint) from jsonb_array_elements(r.preview) p where p ->> 'dataset' = v_name),
    coalesce(' (' || r.reason || ')', '')),
    jsonb_build_object('replan_id', p_replan, 'asked_by', r.requested_by, 'preview', r.preview));
  if v_moved >= 1000 or exists (select from plan where plan_id = any (v_new) and chunks >= 1000) then
    analyze data_chunk, chunk_state, chunk_edge;
  end if;
  return jsonb_build_object('state', 'done', 'running', 0);
end $$;

-- Takes the chunks that stayed behind in old plans out of every table that decides. Their publications,
-- edges and names stay: they are found, and nothing is made of them any more.
create or replace function odf.retire_chunks(p_replan bigint, p_old bigint[], p_now timestamptz) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  -- In the order of every batch, so that no request for them waits crosswise.
  perform from chunk_state where chunk_id in (select chunk_id from data_chunk where plan_id = any (p_old)) order by chunk_id for update;
  update data_set d
     set attempt_base = greatest(d.attempt_base, q.attempts), mark_base = d.mark_base + q.generations + 1
    from (select x.data_set_id, coalesce(max(s.attempt_no), 0) as attempts,
                 coalesce(sum(s.generation) filter (where c.plan_id = x.old_plan_id), 0) as generations
            from replan_plan x
            left join data_chunk c on c.plan_id in (x.old_plan_id, x.plan_id) left join chunk_state s using (chunk_id)
           where x.replan_id = p_replan group by x.data_set_id) q
   where d.data_set_id = q.data_set_id;
  with gone as (
    delete from chunk_state where chunk_id in (select chunk_id from data_chunk where plan_id = any (p_old)) returning *
  )
  insert into retired_chunk (chunk_id, status, attempt_no, generation, last_fence, rows_out, bytes_out, removed, reason, changed_at, retired_at)
  select chunk_id, status, attempt_no, generation, last_fence, rows_out, bytes_out, removed, reason, changed_at, p_now from gone;
  delete from chunk_request where chunk_id in (select chunk_id from data_chunk where plan_id = any (p_old));
  delete from due where chunk_id in (select chunk_id from data_chunk where plan_id = any (p_old));
  delete from ready q using lane n where n.lane_id = q.lane_id and n.replan_id = p_replan
    and q.chunk_id in (select chunk_id from data_chunk where plan_id = any (p_old));
  -- Data kept until it is consumed will never be; one that keeps for a time has its day already.
  insert into removal (chunk_id, generation, due_at)
  select c.chunk_id, g.generation, p_now
    from data_chunk c join retired_chunk g using (chunk_id) join data_set d using (data_set_id)
   where c.plan_id = any (p_old) and g.generation > 0 and not g.removed and d.spec -> 'keep' = '"until_consumed"'
     and exists (select from job j where j.data_set_id = d.data_set_id and not j.retired)
  on conflict do nothing;
  -- At a path without the fence a new chunk of the same name or number may publish: nothing is deleted there.
  delete from removal r using data_chunk c, data_set d
   where c.chunk_id = r.chunk_id and c.plan_id = any (p_old) and d.data_set_id = c.data_set_id
     and coalesce(d.spec #>> '{at,path}', '') not like '%{fence}%';
end $$;

-- Chunks that stay and are made, by time or by an expression, from chunks that retired: they want a chunk
-- of that name from now on, and wait until a plan has it.
create or replace function odf.unlink_retired(p_old bigint[], p_now timestamptz) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_ids bigint[];
begin
  with lost as (
    delete from chunk_edge e using data_chunk i, data_chunk c
     where i.plan_id = any (p_old) and e.input_id = i.chunk_id and e.mapping <> 'same_key'
       and c.chunk_id = e.chunk_id and c.plan_id <> all (p_old)
    returning e.chunk_id, c.plan_id, i.data_set_id, e.mapping, i.key
  ), gaps as (
    insert into chunk_gap (chunk_id, plan_id, data_set_id, mapping, wanted, is_key)
    select chunk_id, plan_id, data_set_id, mapping, key, true from lost on conflict do nothing
  )
  select array_agg(distinct chunk_id) into v_ids from lost;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for update;
  update chunk_state set status = 'waiting', changed_at = p_now where chunk_id = any (v_ids) and status = 'ready';
end $$;

-- The first states of the chunks that are new: a source's are there already, what a job makes waits for
-- its inputs and is released by the leader's passes.
create or replace function odf.begin_chunks(p_new bigint[], p_now timestamptz) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  update data_chunk c set attempt_base = d.attempt_base
    from data_set d
   where d.data_set_id = c.data_set_id and c.plan_id = any (p_new) and d.attempt_base > 0
     and not exists (select from chunk_state s where s.chunk_id = c.chunk_id);
  insert into chunk_state (chunk_id, data_set_id, status, attempt_no, generation, changed_at)
  select c.chunk_id, c.data_set_id, case when j.job_id is null then 'validated' else 'waiting' end::chunk_status,
         c.attempt_base, case when j.job_id is null then 1 else 0 end, p_now
    from data_chunk c left join job j on j.data_set_id = c.data_set_id and not j.retired
   where c.plan_id = any (p_new) and not exists (select from chunk_state s where s.chunk_id = c.chunk_id)
   order by c.chunk_id;
end $$;
