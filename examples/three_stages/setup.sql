-- The two ends: run the first part in the shop's database, the second in the warehouse's.
create table public.orders (order_id bigint primary key, status text not null, amount numeric(12, 2) not null);
insert into public.orders
select n, (array['open', 'filled', 'paid'])[1 + n % 3], (n % 1000) / 8.0 from generate_series(1, 5000) n;
-- warehouse
create table public.orders_clean (order_id bigint primary key, status text not null, amount numeric(12, 2) not null);
create table public.totals (status text primary key, orders bigint not null, amount numeric(20, 2) not null);
