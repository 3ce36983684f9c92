-- old
SELECT c.id, c.name, CONVERT(LOWER(c.email) USING utf8mb4), c.since, 0,
       IF(c.bill_street = '', NULL, CONCAT_WS('; ', c.bill_street, c.bill_city)), IF(c.ship_street = '', NULL, CONCAT_WS('; ', c.ship_street, c.ship_city))
FROM customers c ORDER BY 1;
-- new
SELECT c.customer_id, c.full_name, c.email, c.created_at, c.newsletter,
       (SELECT CONCAT_WS('; ', street, city) FROM customer_address a WHERE a.customer_id = c.customer_id AND kind = 'billing'),
       (SELECT CONCAT_WS('; ', street, city) FROM customer_address a WHERE a.customer_id = c.customer_id AND kind = 'shipping')
FROM customer c ORDER BY 1;

-- old
SELECT SUM(bill_street <> '') + SUM(ship_street <> '') FROM customers;
-- new
SELECT COUNT(*) FROM customer_address;

-- old
SELECT id, cust, placed, cents, state FROM orders ORDER BY id;
-- new
SELECT order_id, customer_id, placed_at, CAST(amount * 100 AS SIGNED), IF(state = 'cancelled', 9, state - 1) FROM sales_order ORDER BY order_id;

-- old
SELECT COUNT(*), SUM(cents) FROM orders WHERE YEAR(placed) = 2021;
-- new
SELECT COUNT(*), CAST(SUM(amount) * 100 AS SIGNED) FROM sales_order PARTITION (y2021);

-- old
SELECT code, percent, NULL FROM coupons ORDER BY HEX(CONVERT(code USING utf8mb4));
-- new
SELECT code, percent, valid_until FROM coupons ORDER BY HEX(code);
