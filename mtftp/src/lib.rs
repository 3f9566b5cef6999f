//! mtftp
