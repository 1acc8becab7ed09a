//! What goes where: the crates and modules and who may use whom, the length of files, the top level.

mod arrows_between_crates_are_as_designed;
mod arrows_between_modules_go_one_way;
mod files_stay_short;
mod sources;
mod the_top_level_is_as_designed;
