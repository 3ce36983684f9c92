// Package rows is what the two ends of a transfer of rows talk about: tables
// and their columns as a server describes them, rows as bytes that mean the same
// wherever they were read, and the changes of one transaction. It owns reading
// a schema, the canonical form of every type's values, SQL literals that give
// exactly such a value back, and the encoding that carries changes to the guest.
//
// It knows no connection, no binlog and no plan.
package rows
