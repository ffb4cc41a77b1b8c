-- Which published chunks were made from data that has been superseded since. For inputs taken chunk by
-- chunk the publication itself marks its consumers; for inputs taken whole the leader does, in slices,
-- because such a consumer may have a million chunks and a publication must not pay for them.

-- After attempts ended: whoever has a generation made it without the ones that were published just now.
create or replace function odf.note_stale(p_ended bigint[], p_now timestamptz) returns void
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  v_below bigint[];
begin
  select array_agg(distinct c.chunk_id) into v_below
    from chunk_state i join chunk_edge e on e.input_id = i.chunk_id join chunk_state c on c.chunk_id = e.chunk_id
   where i.chunk_id = any (p_ended) and i.status in ('validated', 'complete') and c.generation >= 1 and c.stale_since is null;
  if v_below is not null then
    perform from chunk_state where chunk_id = any (v_below) order by chunk_id for no key update;
    update chunk_state set stale_since = p_now where chunk_id = any (v_below) and generation >= 1 and stale_since is null;
  end if;
end $$;

-- Looks through the outputs of jobs that take data sets whole, each once after such an input was
-- published again. Bounded by p_until; what is left is the next pass's.
create or replace function odf.note_stale_whole(p_until timestamptz) returns bigint
language plpgsql security definer set search_path = odf, pg_temp as $$
declare
  c_slice constant bigint := 5000;
  v_now timestamptz := odf.clock();
  v_mark bigint[];
  v_marked bigint;
  v_n bigint := 0;
  j record;
begin
  for j in
    select x.job_id, d.plan_id, l.chunks, w.mark, coalesce(w.walked_to, l.chunks) as walked_to
      from job x join data_set d using (data_set_id) join plan l using (plan_id) left join whole_look w using (job_id)
     where not x.retired and exists (select from job_input i where i.job_id = x.job_id and i.mapping = 'all')
       and (select sum(generations) from progress_now p where p.data_set_id = x.data_set_id) > 0
     order by x.job_id
  loop
    if j.walked_to >= j.chunks then
      -- Read before the walk: what is published during it makes the next one.
      v_mark := odf.fan_in_mark(j.job_id);
      continue when v_mark is not distinct from j.mark;
      j.walked_to := 0;
      insert into whole_look values (j.job_id, v_mark, 0)
      on conflict (job_id) do update set mark = excluded.mark, walked_to = 0;
    end if;
    while j.walked_to < j.chunks loop
      if clock_timestamp() > p_until then
        return v_n;
      end if;
      -- The mark and the publications in one snapshot: a chunk that was made meanwhile is up to date.
      with mark as materialized (
        select array(select coalesce((select sum(generations) from progress_now p where p.data_set_id = i.data_set_id), 0)::bigint
                       from job_input i where i.job_id = j.job_id and i.mapping = 'all' order by i.position) as now
      ), behind as materialized (
        select c.chunk_id, c.generation
          from data_chunk k join chunk_state c using (chunk_id)
          join publication p on p.chunk_id = c.chunk_id and p.generation = c.generation
          cross join mark m
         where k.plan_id = j.plan_id and k.ordinal > j.walked_to and k.ordinal <= j.walked_to + c_slice
           and c.stale_since is null and p.fan_in_mark <> m.now
         order by c.chunk_id for no key update of c
      ), marked as (
        update chunk_state c set stale_since = v_now
          from behind b where c.chunk_id = b.chunk_id and c.generation = b.generation and c.stale_since is null
        returning 1
      )
      select count(*) into v_marked from marked;
      v_n := v_n + v_marked;
      j.walked_to := j.walked_to + c_slice;
      update whole_look set walked_to = least(j.walked_to, j.chunks) where job_id = j.job_id;
    end loop;
  end loop;
  return v_n;
end $$;

-- What is made from chunks, level by level, whether by edges or because their data set is taken whole:
-- what has a generation, or makes its first one now. 'kept' is what a person held or cancelled: it
-- stands, and nothing below it is reached by way of it.
create or replace function odf.made_from(p_chunks bigint[]) returns table (chunk_id bigint, level int, kept boolean)
language plpgsql stable security definer set search_path = odf, pg_temp as $$
#variable_conflict use_column
declare
  v_seen bigint[] := p_chunks;
  v_edge bigint[] := p_chunks;
  v_kept bigint[];
  v_level int := 0;
begin
  while cardinality(v_edge) > 0 loop
    v_level := v_level + 1;
    select array_agg(s.chunk_id) filter (where s.status not in ('held', 'cancelled')),
           array_agg(s.chunk_id) filter (where s.status in ('held', 'cancelled'))
      into v_edge, v_kept
      from (
        select e.chunk_id from unnest(v_edge) f(id) join chunk_edge e on e.input_id = f.id
        union
        select k.chunk_id
          from (select distinct s.data_set_id from unnest(v_edge) f(id) join chunk_state s on s.chunk_id = f.id) d
          join job_input i on i.data_set_id = d.data_set_id and i.mapping = 'all'
          join job j on j.job_id = i.job_id and not j.retired
          join data_set o on o.data_set_id = j.data_set_id
          join data_chunk k on k.plan_id = o.plan_id) n
      join chunk_state s on s.chunk_id = n.chunk_id
      join data_chunk k on k.chunk_id = n.chunk_id
      join data_set o on o.plan_id = k.plan_id and not o.retired
     where (s.generation > 0 or exists (select from lease l where l.chunk_id = n.chunk_id))
       and not exists (select from unnest(v_seen) x(id) where x.id = n.chunk_id);
    return query select id, v_level, false from unnest(v_edge) id union all select id, v_level, true from unnest(v_kept) id;
    v_seen := v_seen || v_edge || v_kept;
  end loop;
end $$;
