//! The agent's own update: what starts it, and what the agent does about it.

mod download;
mod room;
mod scene;
mod scene_whole;
mod starter;
mod storm;
mod whole;
