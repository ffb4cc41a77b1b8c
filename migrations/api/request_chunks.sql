-- Asks for chunks to be resubmitted, held or cancelled: all selectors, and what is made from their
-- chunks where that is wanted, in one transaction. Options: {dry_run, now: stop attempts that make them,
-- readers: wait | refuse | cancel, downstream, until: timestamp or hold_s: seconds (of a hold)}.
-- Answers {matched, accepted, pending, states, refused, dry_run, readers, readers_n, until,
-- sets: [{dataset, below, chunks, accepted, kept}], causes: [why something was refused]}.
create or replace function odf.request_chunks(p_verb text, p_selectors jsonb, p_reason text, p_options jsonb default '{}') returns jsonb
language plpgsql security definer set search_path = odf, pg_temp set jit = off as $$
declare
  v_now timestamptz := odf.clock();
  v_reason text := coalesce(nullif(p_reason, ''), 'asked for by ' || session_user);
  v_readers_rule text := coalesce(p_options ->> 'readers', 'wait');
  v_down boolean := coalesce((p_options ->> 'downstream')::boolean, false);
  v_until timestamptz := coalesce((p_options ->> 'until')::timestamptz, v_now + (p_options ->> 'hold_s')::float8 * interval '1 second');
  v_ids bigint[];
  v_levels int[];
  v_kept boolean[];
  v_ok bigint[];
  v_readers bigint[];
  v_answer jsonb;
begin
  perform odf.demand_read_committed();
  if p_verb not in ('resubmit', 'held', 'cancelled') then
    raise exception 'only resubmit, held and cancelled can be asked for, found %', quote_literal(p_verb) using errcode = 'OD002';
  end if;
  if v_readers_rule not in ('wait', 'refuse', 'cancel') then
    raise exception 'readers: wait, refuse or cancel was expected, found %', quote_literal(v_readers_rule) using errcode = 'OD002';
  end if;
  if v_until <= v_now then
    raise exception 'the hold would be over before it began: until % was asked for at %', v_until, v_now using errcode = 'OD002';
  end if;
  v_ids := array(select distinct c from jsonb_array_elements(p_selectors) s cross join lateral odf.select_chunks(s) c);
  v_levels := array_fill(0, array[cardinality(v_ids)]);
  v_kept := array_fill(false, array[cardinality(v_ids)]);
  if v_down then
    select v_ids || coalesce(array_agg(m.chunk_id), '{}'), v_levels || coalesce(array_agg(m.level), '{}'),
           v_kept || coalesce(array_agg(m.kept), '{}')
      into v_ids, v_levels, v_kept
      -- Nothing is made from chunks that will not be made again.
      from odf.made_from(array(select c.chunk_id from unnest(v_ids) x(id) join chunk_state c on c.chunk_id = x.id
                                where exists (select from job j where j.data_set_id = c.data_set_id and not j.retired))) m;
  end if;
  select x.ok, x.answer into v_ok, v_answer from odf.look_at_request(p_verb, v_ids, v_levels, v_kept, v_until) x;
  v_readers := case when p_verb = 'resubmit' then odf.readers_of(v_ok) else '{}' end;
  v_answer := v_answer || jsonb_build_object('verb', p_verb, 'dry_run', coalesce((p_options ->> 'dry_run')::boolean, false), 'pending', 0,
    'readers_n', cardinality(v_readers), 'readers', odf.name_readers(v_readers), 'until', case when p_verb = 'held' then v_until end);
  if v_readers_rule = 'refuse' then
    perform odf.refuse_readers(v_readers);
  end if;
  if (v_answer ->> 'dry_run')::boolean or v_ok = '{}' then
    return v_answer;
  end if;
  -- One that is being settled right now need not be told.
  update lease set abort = 'term', abort_why = v_reason
   where chunk_id in (
     select l.chunk_id from lease l
       join (select id from unnest(v_ok) id where (p_options ->> 'now')::boolean
             union select id from unnest(v_readers) id where v_readers_rule = 'cancel') x on x.id = l.chunk_id
      where l.abort is null for no key update of l skip locked);
  perform odf.ask_in_slices(p_verb, v_ok, v_reason, case when p_verb = 'held' then v_until end, v_now);
  if v_readers_rule = 'refuse' then
    -- One that was claimed since the look: then nothing is changed either.
    perform odf.refuse_readers(odf.readers_of(array(
      select r.chunk_id from unnest(v_ok) x(id) join chunk_request r on r.chunk_id = x.id)));
  end if;
  perform odf.log_event('chunks.' || p_verb, x ->> 'dataset', format('%s chunks: %s', x ->> 'accepted', v_reason),
                        jsonb_build_object('selectors', p_selectors, 'options', p_options))
     from jsonb_array_elements(v_answer -> 'sets') x where (x ->> 'accepted')::bigint > 0;
  return v_answer || jsonb_build_object('pending',
    (select count(distinct r.chunk_id) from unnest(v_ok) x(id) join chunk_request r on r.chunk_id = x.id));
end $$;

-- What a request would come to: the chunks that it fits, and the counts that people are shown.
create or replace function odf.look_at_request(
  p_verb text, p_ids bigint[], p_levels int[], p_kept boolean[], p_until timestamptz, out ok bigint[], out answer jsonb)
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  with chosen as materialized (
    select * from unnest(p_ids, p_levels, p_kept) t(chunk_id, level, kept)
  ), asked as materialized (
    select distinct on (r.chunk_id) r.chunk_id, r.verb from chunk_request r join chosen using (chunk_id) order by r.chunk_id, r.request_id desc
  ), seen as materialized (
    select c.chunk_id, c.data_set_id, t.level, t.kept, j.job_id is not null as made,
           coalesce(a.verb, case when l.chunk_id is not null then 'running' end, c.status::text) as status,
           j.job_id is not null and not t.kept
           and (n.new_status is not null or p_verb = 'resubmit' and c.status = 'waiting'
                or p_verb = 'held' and c.status = 'held' and p_until is not null) as fits
      from chosen t join chunk_state c using (chunk_id)
      left join job j on j.data_set_id = c.data_set_id and not j.retired
      left join lease l on l.chunk_id = c.chunk_id
      left join asked a on a.chunk_id = c.chunk_id
      left join chunk_transition n on n.old_status = c.status
                                  and n.new_status = case when p_verb = 'resubmit' then 'waiting' else p_verb end::chunk_status
  ), states as (
    select s.status, count(*) filter (where not kept) as n, count(*) filter (where not fits and not kept) as refused from seen s group by s.status
  ), sets as (
    select d.name, min(s.level) as level, bool_and(s.level > 0) as below, bool_or(s.made) as made, count(*) filter (where not s.kept) as n,
           count(*) filter (where s.fits) as fits, count(*) filter (where s.kept) as kept
      from seen s join data_set d using (data_set_id) group by d.data_set_id, d.name
  )
  select coalesce((select array_agg(chunk_id order by chunk_id) from seen where fits), '{}'),
         jsonb_build_object(
           'matched', (select coalesce(sum(n), 0) from states),
           'accepted', (select count(*) from seen where fits),
           'states', coalesce((select jsonb_object_agg(x.status, x.n) from states x where x.n > 0), '{}'),
           'refused', coalesce((select jsonb_object_agg(x.status, x.refused) from states x where x.refused > 0), '{}'),
           'sets', coalesce((select jsonb_agg(jsonb_build_object('dataset', x.name, 'below', x.below, 'chunks', x.n, 'accepted', x.fits, 'kept', x.kept)
                                              order by x.level, x.name) from sets x), '[]'),
           'causes', coalesce((select jsonb_agg(case when exists (select from job j join data_set d using (data_set_id) where d.name = x.name)
                                                     then format('the job that made %s is not in the flow any more', x.name)
                                                     else format('%s is a source: no job makes it', x.name) end order by x.name)
                                 from sets x where not x.made), '[]'))
    into ok, answer;
end $$;

-- Queues requests and applies what can be done now, in the order of the chunks' ids and a bounded number
-- at a time, so that the queue stays short; all in the caller's transaction.
create or replace function odf.ask_in_slices(p_verb text, p_chunks bigint[], p_reason text, p_until timestamptz, p_now timestamptz)
returns void
language plpgsql security definer set search_path = odf, pg_temp set enable_seqscan = off set jit = off as $$
declare
  c_slice constant int := 5000;
  v_slice bigint[];
begin
  for n in 0 .. (cardinality(p_chunks) - 1) / c_slice loop
    v_slice := p_chunks[n * c_slice + 1 : (n + 1) * c_slice];
    perform from chunk_state c where c.chunk_id = any (v_slice) order by c.chunk_id for no key update;
    insert into chunk_request (chunk_id, data_set_id, verb, reason, requested_by, requested_at, until)
    select c.chunk_id, c.data_set_id, p_verb, p_reason, session_user, p_now, p_until
      from unnest(v_slice) x(id) join chunk_state c on c.chunk_id = x.id order by c.chunk_id;
    perform odf.apply_requests(v_slice);
  end loop;
end $$;

-- The first readers by name: ['dst/00001 on w1', ..].
create or replace function odf.name_readers(p_readers bigint[]) returns jsonb
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  return (
    select coalesce(jsonb_agg(q.name order by q.chunk_id), '[]') from (
      select c.chunk_id, d.name || '/' || c.key || ' on ' || w.name as name
        from lease l join data_chunk c using (chunk_id) join data_set d on d.data_set_id = c.data_set_id
        join worker_session s using (session_id) join worker w using (worker_id)
       where l.chunk_id = any (p_readers) order by c.chunk_id limit 10) q);
end $$;

create or replace function odf.refuse_readers(p_readers bigint[]) returns void
language plpgsql stable security definer set search_path = odf, pg_temp as $$
begin
  if p_readers <> '{}' then
    raise exception 'nothing was changed: % running attempt(s) read what was to be made again: %', cardinality(p_readers),
        (select string_agg(name, ', ') from jsonb_array_elements_text(odf.name_readers(p_readers)) name)
      using errcode = 'OD011', hint = 'Wait for them (readers: wait) or stop them uncharged (readers: cancel).';
  end if;
end $$;

-- As request_chunks, for one selector and without its options.
create or replace function odf.request(p_verb text, p_selector jsonb, p_reason text, p_dry_run boolean default false, p_at_once boolean default false)
returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
begin
  return odf.request_chunks(p_verb, jsonb_build_array(p_selector), p_reason,
    jsonb_build_object('dry_run', coalesce(p_dry_run, false), 'now', coalesce(p_at_once, false)));
end $$;

-- Sends published chunks that wait for approval back to be made again. Their consumers have not read them.
create or replace function odf.reject(p_selectors jsonb, p_reason text) returns jsonb
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_answer jsonb;
begin
  v_answer := odf.request_chunks('resubmit',
    (select coalesce(jsonb_agg(s || '{"status": ["complete"]}'), '[]') from jsonb_array_elements(p_selectors) s), p_reason);
  perform odf.log_event('chunks.rejected', p_selectors #>> '{0,dataset}', format('%s chunks: %s', v_answer ->> 'accepted', coalesce(p_reason, '')), p_selectors);
  return v_answer;
end $$;
