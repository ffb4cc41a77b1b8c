-- Space: published data that a keep rule gives up, and lanes that stop while a disk is too full.

-- After chunks were published: what their keep rule, a newer generation or their consumption gives up.
create or replace function odf.note_removals(p_published bigint[], p_now timestamptz) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  -- The generation before: nobody reads it any more, unless it was published to the same place.
  insert into removal (chunk_id, generation, due_at)
  select c.chunk_id, old.generation, p_now
    from chunk_state c
    join publication new on new.chunk_id = c.chunk_id and new.generation = c.generation
    join publication old on old.chunk_id = c.chunk_id and old.generation = c.generation - 1
   where c.chunk_id = any (p_published) and c.status in ('validated', 'complete') and old.removed_at is null
     and old.location is distinct from new.location and new.published_at = p_now
  on conflict do nothing;
  -- keep: so many seconds.
  insert into removal (chunk_id, generation, due_at)
  select c.chunk_id, c.generation, p_now + make_interval(secs => (d.spec #>> '{keep,seconds}')::float8)
    from chunk_state c join data_set d using (data_set_id)
   where c.chunk_id = any (p_published) and c.status in ('validated', 'complete') and d.spec #>> '{keep,seconds}' is not null
  on conflict do nothing;
  -- keep: until_consumed, once every chunk made from it is validated.
  insert into removal (chunk_id, generation, due_at)
  select i.chunk_id, i.generation, p_now
    from chunk_state i join data_set d using (data_set_id)
   where i.chunk_id in (select e.input_id from chunk_edge e join chunk_state c on c.chunk_id = e.chunk_id
                         where e.chunk_id = any (p_published) and c.status = 'validated')
     and d.spec -> 'keep' = '"until_consumed"' and i.status = 'validated' and not i.removed
     and exists (select from job j where j.data_set_id = d.data_set_id and not j.retired)
     and not exists (select from chunk_edge e join chunk_state c on c.chunk_id = e.chunk_id
                      where e.input_id = i.chunk_id and c.status <> 'validated')
     and not exists (select from job_input x join job j using (job_id)
                      where x.data_set_id = d.data_set_id and x.mapping = 'all' and not j.retired)
  on conflict do nothing;
end $$;

-- Gives a worker up to p_limit published outputs to delete. From here on no claim reads them: the
-- chunk is marked under the lock that claims share. One that is read now, that is being made again or
-- that somebody waits for is looked at again later, so that it does not stand before the others.
create or replace function odf.take_removals(p_session bigint, p_key bytea, p_limit int) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, false);
  v_ids bigint[];
  v_generations int[];
  v_taken jsonb;
begin
  select array_agg(q.chunk_id), array_agg(q.generation) into v_ids, v_generations
    from (select chunk_id, generation from removal where due_at <= v_now and coalesce(taken_until, '-infinity') <= v_now
           order by due_at limit p_limit for update skip locked) q;
  if v_ids is null then
    return '[]';
  end if;
  perform from chunk_state where chunk_id = any (v_ids) order by chunk_id for no key update;
  with picked as materialized (
    select t.chunk_id, t.generation, c.generation as now,
           not odf.is_read(c.chunk_id, c.data_set_id)
           and (t.generation < c.generation
                or c.status in ('validated', 'complete') and not odf.is_waited_for(c.chunk_id, c.data_set_id)) as free
      from unnest(v_ids, v_generations) as t(chunk_id, generation) join chunk_state c using (chunk_id)
     where c.chunk_id = any (v_ids)
    union all
    -- Of a plan that was replaced: nothing is made from it any more.
    select t.chunk_id, t.generation, g.generation, true
      from unnest(v_ids, v_generations) as t(chunk_id, generation) join retired_chunk g using (chunk_id)
     where g.chunk_id = any (v_ids)
  ), later as (
    update removal r set due_at = v_now + interval '1 minute'
      from picked p where r.chunk_id = p.chunk_id and r.generation = p.generation and not p.free
  ), taken as (
    update removal r set taken_until = v_now + interval '10 minutes'
      from picked p where r.chunk_id = p.chunk_id and r.generation = p.generation and p.free
    returning r.chunk_id, r.generation
  ), marked as (
    update chunk_state c set removed = true from picked p
     where c.chunk_id = p.chunk_id and p.generation = p.now and p.free
  ), marked_retired as (
    update retired_chunk g set removed = true from picked p
     where g.chunk_id = p.chunk_id and p.generation = p.now and p.free
  )
  select coalesce(jsonb_agg(jsonb_build_object('chunk_id', f.chunk_id, 'generation', f.generation, 'fence', p.fence,
           'dataset', d.name, 'location', p.location, 'at', d.spec -> 'at',
           'connection', v.model -> 'connections' -> (d.spec #>> '{at,connection}'))), '[]')
    into v_taken
    from taken f join publication p using (chunk_id, generation)
    join data_chunk k on k.chunk_id = f.chunk_id join data_set d on d.data_set_id = k.data_set_id
    join flow w on w.flow_id = d.flow_id join flow_version v on v.flow_id = w.flow_id and v.version = w.current_version;
  return v_taken;
end $$;

-- Whether a running attempt reads a chunk, alone or with its whole data set.
create or replace function odf.is_read(p_chunk bigint, p_data_set int) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return exists (select from chunk_edge e join lease l on l.chunk_id = e.chunk_id where e.input_id = p_chunk)
      or exists (select from job_input i join lease l on l.job_id = i.job_id where i.data_set_id = p_data_set and i.mapping = 'all');
end $$;

-- Whether a chunk that is made from this one will run without a person's doing.
create or replace function odf.is_waited_for(p_chunk bigint, p_data_set int) returns boolean
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return exists (
      select from chunk_edge e join chunk_state c on c.chunk_id = e.chunk_id join job j on j.data_set_id = c.data_set_id
       where e.input_id = p_chunk and not j.retired and c.status in ('waiting', 'ready', 'failed'))
    or exists (
      select from job_input i join job j using (job_id) join progress_now p on p.data_set_id = j.data_set_id
       where i.data_set_id = p_data_set and i.mapping = 'all' and not j.retired
         and p.status in ('waiting', 'ready', 'failed') and p.n > 0);
end $$;

-- What became of them: [[chunk_id, generation, error or null], ...]. A failure is tried again in an hour.
create or replace function odf.settle_removals(p_session bigint, p_key bytea, p_done jsonb) returns void
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  s worker_session := odf.session_of(p_session, p_key, false);
begin
  with done as (
    select (x ->> 0)::bigint as chunk_id, (x ->> 1)::int as generation, x ->> 2 as error from jsonb_array_elements(p_done) x
  ), gone as (
    delete from removal r using done where r.chunk_id = done.chunk_id and r.generation = done.generation and done.error is null
    returning r.chunk_id, r.generation
  ), stamped as (
    update publication p set removed_at = v_now from gone where p.chunk_id = gone.chunk_id and p.generation = gone.generation
  )
  update removal r set due_at = v_now + interval '1 hour', taken_until = null, error = left(done.error, 500)
    from done where r.chunk_id = done.chunk_id and r.generation = done.generation and done.error is not null;
end $$;

-- Stops lanes whose output's root has less free space than its mark, by what workers last reported in
-- their facts ({"roots": {"flow/connection": free bytes}}), and opens them when there is 5 % more.
create or replace function odf.watch_space(p_term bigint) returns int
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_now timestamptz := odf.clock();
  v_changed int := 0;
  v_why text;
  l record;
begin
  perform odf.prove_term(p_term);
  for l in
    select n.lane_id, n.blocked, j.name, d.spec #>> '{at,connection}' as connection,
           (v.model #>> array['connections', d.spec #>> '{at,connection}', 'min_free_bytes'])::numeric as min_free,
           (select min((f.facts #>> array['roots', w.name || '/' || (d.spec #>> '{at,connection}')])::numeric)
              from session_facts f join worker_session s using (session_id)
             where s.state = 'active' and f.at > v_now - interval '5 minutes') as free
      from lane n join job j using (job_id) join data_set d using (data_set_id) join flow w on w.flow_id = j.flow_id
      join flow_version v on v.flow_id = w.flow_id and v.version = w.current_version
     where not j.retired
  loop
    v_why := case
      when l.min_free is null or l.min_free = 0 or l.free is null then null
      when l.free < l.min_free * case when l.blocked is null then 1 else 1.05 end
        then format('%s has %s free, %s wanted', l.connection, pg_size_pretty(l.free), pg_size_pretty(l.min_free)) end;
    if (v_why is null) <> (l.blocked is null) then
      -- Never waits for a lane: claims take several in another order.
      perform from lane where lane_id = l.lane_id for no key update skip locked;
      continue when not found;
      update lane set blocked = v_why where lane_id = l.lane_id;
      perform odf.log_event(case when v_why is null then 'lane.open' else 'lane.blocked' end, l.name, coalesce(v_why, 'there is room again'));
      v_changed := v_changed + 1;
    end if;
  end loop;
  return v_changed;
end $$;
