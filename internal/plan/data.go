package plan

import "net/netip"

// DataSet is one database whose rows flow into the new version while production runs.
type DataSet struct {
	Name        string       `plan:"name,required" doc:"Name of the data set, shown in progress and report."`
	Source      DataSource   `plan:"source,required" doc:"Production's database, whose changes are read from its row log."`
	Clone       string       `plan:"clone,required" doc:"VM of the universe that is the clone of the source's VM; the first rows are read from it."`
	Target      DataTarget   `plan:"target,required" doc:"The new version's database."`
	Skip        []string     `plan:"skip" doc:"Tables that are not transferred."`
	Conversions []Conversion `plan:"conversions" doc:"How tables are made whose shape changed; all others are carried as they are."`
}

// DataSource is a database server of production.
type DataSource struct {
	Domain       string         `plan:"domain,required" doc:"Production domain that the server runs in."`
	Flavor       Flavor         `plan:"flavor" default:"mariadb" doc:"Kind of the server."`
	Address      netip.AddrPort `plan:"address,required" doc:"Address and port of the server; imago reaches production's there, and the universe reaches the clone's."`
	User         string         `plan:"user,required" doc:"Login of the server; 'imago check' prints the GRANT that it needs."`
	Password     string         `plan:"password" doc:"Password of the login; or give password_file."`
	PasswordFile string         `plan:"password_file" doc:"File on this host with the password; relative to the plan file."`
	Database     string         `plan:"database,required" doc:"Name of the database."`
}

// DataTarget is a database server in the universe.
type DataTarget struct {
	VM       string `plan:"vm,required" doc:"VM of the universe that the server runs in."`
	Socket   string `plan:"socket" default:"/run/mysqld/mysqld.sock" doc:"Unix socket of the server in the VM."`
	User     string `plan:"user" default:"root" doc:"Login of the server, with all rights on the new database and on imago's own."`
	Password string `plan:"password" doc:"Password of the login, where the socket alone does not do."`
	Database string `plan:"database,required" doc:"Name of the database; it and its empty tables are made by the plan's steps."`
}

// Conversion makes the rows of one table of the new version from old tables.
type Conversion struct {
	Name    string           `plan:"name" doc:"Name of the conversion; default is the table."`
	Into    string           `plan:"into,required" doc:"Table of the new database."`
	Key     []string         `plan:"key,required" doc:"Columns of that table that name an object: the rows that are converted together."`
	From    []ConversionFrom `plan:"from,required" doc:"The old tables that it reads; the first one has a row for each object."`
	Select  string           `plan:"select,required" doc:"A SELECT of the new rows; {old}.table is an old table, {new}.table one of the new database."`
	Program []string         `plan:"program" doc:"Program in the target's VM that turns the selected rows into the new ones, as JSON lines."`
	Add     bool             `plan:"add" doc:"true: only objects that are missing are added, and none is ever changed or removed."`
}

// ConversionFrom says which objects a changed row of an old table belongs to.
type ConversionFrom struct {
	Table string   `plan:"table,required" doc:"Old table."`
	Key   []string `plan:"key,required" doc:"Its columns that hold the object's key, in the order of the conversion's key; with via, the columns that via is asked with."`
	Via   string   `plan:"via" doc:"For a table that does not hold the object's key: a SELECT of the keys of the objects that depend on it, with the columns of key as named parameters."`
	Plus  int      `plan:"plus" doc:"Added to the last column of key, so that the rows of two tables that are numbered alike become those of one."`
}

// FileSet is one folder of a production VM that is kept equal in the new version.
type FileSet struct {
	Name   string    `plan:"name,required" doc:"Name of the file set, shown in progress and report."`
	From   DiskPath  `plan:"from,required" doc:"The folder on a disk of production; it is read from frozen views of that disk."`
	To     GuestPath `plan:"to,required" doc:"The folder in the universe, as vm:/absolute/path."`
	Delete bool      `plan:"delete" doc:"Remove from the destination what the source does not have."`
	Owner  string    `plan:"owner" doc:"Owner of the files at the destination, as user or user:group; default is as at the source."`
}

// DiskPath is a folder on a disk of a production VM.
type DiskPath struct {
	Domain    string `plan:"domain,required" doc:"Production domain that owns the disk."`
	Disk      string `plan:"disk,required" doc:"Target name of the disk in that domain, such as vda."`
	Partition int    `plan:"partition" doc:"Number of the partition with the file system; 0 is the whole disk."`
	Path      string `plan:"path,required" doc:"Folder, as an absolute path inside that file system."`
}
