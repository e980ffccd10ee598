// Ids in the order of use: the default hashes a shared package's absolute path, and so no two checkouts build the same.
module.exports = { optimization: { moduleIds: 'natural' } };
