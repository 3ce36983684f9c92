-- old
SELECT l.order_id, l.line, (SELECT placed FROM orders WHERE id = l.order_id),
       (SELECT c.name FROM customer c WHERE c.id = (SELECT customer FROM orders WHERE id = l.order_id)),
       (SELECT title FROM product WHERE id = l.product), l.pieces,
       (SELECT price * l.pieces FROM product WHERE id = l.product),
       (SELECT ROUND(l.pieces * pr.price + l.pieces * pr.price * t.percent / 100, 2) FROM product pr, tax t WHERE pr.id = l.product AND t.class = pr.tax_class
          AND t.country = (SELECT c.country FROM customer c, orders o WHERE o.id = l.order_id AND c.id = o.customer))
FROM order_line l WHERE EXISTS (SELECT 1 FROM orders WHERE id = l.order_id) ORDER BY 1, 2;
-- new
SELECT order_id, line, placed, customer, product, pieces, net, gross FROM sale ORDER BY 1, 2;

-- old
SELECT id, (SELECT COUNT(*) FROM orders WHERE customer = c.id), (SELECT MAX(placed) FROM orders WHERE customer = c.id) FROM customer c ORDER BY id;
-- new
SELECT customer_id, orders, last_order FROM customer_total ORDER BY customer_id;

-- old
SELECT SUM(l.pieces), SUM(l.pieces * p.price) FROM order_line l JOIN product p ON p.id = l.product JOIN orders o ON o.id = l.order_id;
-- new
SELECT SUM(pieces), SUM(net) FROM customer_total;

-- old
SELECT id, name, country, 0 FROM customer ORDER BY id;
-- new
SELECT id, name, country, loyal FROM customer ORDER BY id;

-- old
SELECT * FROM product ORDER BY id;
-- new
SELECT * FROM product ORDER BY id;
