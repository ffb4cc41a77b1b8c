-- Group roles of an installation, shared by all databases of a cluster. Logins are made by the
-- administrator: create role etl1 login password '...' in role odf_worker.
do $$
declare
  v_role text;
begin
  foreach v_role in array array['odf_owner', 'odf_coordinator', 'odf_worker', 'odf_operator', 'odf_viewer'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception when duplicate_object or unique_violation then null;
      end;
    end if;
  end loop;
  -- From PostgreSQL 16 on, whoever makes a role may grant it and is not yet able to become it.
  if current_setting('server_version_num')::int >= 160000 then
    if not pg_has_role(current_user, 'odf_owner', 'set') then
      execute format('grant odf_owner to %I with inherit true, set true', current_user);
    end if;
  elsif not pg_has_role(current_user, 'odf_owner', 'member') then
    execute format('grant odf_owner to %I', current_user);
  end if;
end $$;
create schema if not exists odf authorization odf_owner;
