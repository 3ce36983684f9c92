UPDATE orders SET placed = '2024-03-01 10:00:00' WHERE id = 5001;
